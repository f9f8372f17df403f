//! `frostline rows`.

use std::time::Instant;

use frostline_schemas::data::{self, Encoder};
use frostline_schemas::model;

use crate::arguments::RowsArguments;
use crate::output::Output;
use crate::progress::Bar;
use crate::render::rows::{SeenRows, to_text};

pub(crate) fn run(arguments: &RowsArguments, output: &Output) -> anyhow::Result<()> {
    let files = &arguments.files;
    let config = model::read_config(&files.model)?;
    let settings = arguments.rows.settings();
    let encoder = Encoder::new(&files.model);
    let bar = Bar::new(output, "reading rows");
    let begin = Instant::now();
    let examples = data::read_examples(&config, &encoder, &files.data, &settings)?;
    let seconds = begin.elapsed().as_secs_f64();
    drop(bar);
    let seen =
        SeenRows { path: &files.data, examples: &examples, encoder: &encoder, shown: arguments.shown.show.0, seconds };
    output.result(&seen, || to_text(&seen))
}
