//! The JSON Schema files beside this crate say what the types say.
//!
//! After a change of the types: `FROSTLINE_BLESS=1 cargo test -p frostline-schemas --test json_schema`.

use std::path::Path;

fn check(name: &str, schema: schemars::Schema) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let generated = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    if std::env::var_os("FROSTLINE_BLESS").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == generated,
        "{name} is not what the types say; see the head of this test for how to write it anew"
    );
}

#[test]
fn of_the_plan() {
    check("plan.schema.json", frostline_schemas::plan::json_schema());
}

#[test]
fn of_a_runs_settings() {
    check("run.schema.json", schemars::schema_for!(frostline_schemas::run::RunRecord));
}

#[test]
fn of_a_line_of_metrics() {
    check("metrics.schema.json", schemars::schema_for!(frostline_schemas::run::StepMetrics));
}
