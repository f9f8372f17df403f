//! The arrows between rooms: crates import only what they may, rooms only from rooms before them, and no files import each
//! other in a circle. `ARCHITECTURE.md` shows the same order of rooms; one of these tests compares the two.

mod graph;
mod reader_tests;
mod source;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use graph::Arrow;

/// A crate of the workspace.
struct House {
    /// Its folder, from the workspace's root.
    folder: &'static str,
    /// Crates whose name begins like this have no place in it.
    never: &'static [&'static str],
    /// Its rooms, by the first segment of their path: each imports only from rooms before it.
    rooms: &'static [&'static str],
}

const HOUSES: [House; 4] = [
    House {
        folder: "schemas",
        never: &["frostline_planner", "frostline_runtime", "ort", "tract", "candle"],
        rooms: &[
            "digest",
            "canonical",
            "files",
            "guard",
            "device",
            "units",
            "cache",
            "model",
            "data",
            "select",
            "plan",
            "run",
        ],
    },
    House {
        folder: "planner",
        never: &["frostline_runtime", "candle"],
        rooms: &[
            "batch",
            "error",
            "progress",
            "onnx",
            "rewrite",
            "verify",
            "engine",
            "salf",
            "heuristics",
            "traces",
            "plan",
            "inspect",
        ],
    },
    House {
        folder: "runtime",
        never: &["frostline_planner", "ort", "tract"],
        rooms: &[
            "error", "system", "ops", "data", "model", "cache", "train", "card", "evaluate", "run", "compare", "probe",
        ],
    },
    House {
        folder: ".",
        never: &["ort", "tract", "candle"],
        rooms: &["output", "cure", "arguments", "render", "progress", "commands"],
    },
];

impl House {
    fn name(&self) -> &str {
        if self.folder == "." { "command" } else { self.folder }
    }

    fn files(&self) -> Vec<(String, String)> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(self.folder).join("src");
        let mut files = Vec::new();
        read_folder(&source, "", &mut files);
        files
    }

    fn order(&self) -> String {
        format!("{}: {}", self.name(), self.rooms.join(" → "))
    }

    /// The room's index in the order; none for the crate's root.
    fn room(&self, file: &str) -> Option<usize> {
        let name = room_name(file)?;
        Some(self.rooms.iter().position(|room| *room == name).unwrap_or(self.rooms.len()))
    }
}

fn read_folder(folder: &Path, prefix: &str, files: &mut Vec<(String, String)>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(Result::unwrap).collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            read_folder(&entry.path(), &format!("{prefix}{name}/"), files);
        } else if name.ends_with(".rs") {
            files.push((format!("{prefix}{name}"), std::fs::read_to_string(entry.path()).unwrap()));
        }
    }
}

/// The room that a file belongs to; none for `lib.rs` and `main.rs`.
fn room_name(file: &str) -> Option<&str> {
    let first = file.split('/').next().unwrap_or(file);
    let name = first.trim_end_matches(".rs");
    (!matches!(first, "lib.rs" | "main.rs")).then_some(name)
}

/// Everything that is wrong with a crate's imports, a line or more for each fault.
fn faults(house: &House, files: &[(String, String)]) -> Vec<String> {
    let modules = match source::modules(files) {
        Ok(modules) => modules,
        Err(error) => return vec![error],
    };
    let (arrows, foreign) = graph::arrows(&modules);
    let src = if house.folder == "." { "src".into() } else { format!("{}/src", house.folder) };
    let mut faults = Vec::new();
    for file in modules.values().map(|module| &module.file).collect::<BTreeSet<_>>() {
        if house.room(file) == Some(house.rooms.len()) {
            faults.push(format!(
                "{src}/{file}: no room `{}` in the order {}",
                room_name(file).unwrap_or(file),
                house.order()
            ));
        }
    }
    for name in house.rooms {
        if !modules.values().any(|module| room_name(&module.file) == Some(name)) {
            faults.push(format!("{src}: the order has a room `{name}` that is not there"));
        }
    }
    for import in foreign {
        if house.never.iter().any(|never| is_crate(&import.name, never)) {
            faults.push(format!(
                "{src}/{}:{}: {} must not import `{}`",
                import.from,
                import.line,
                house.name(),
                import.name
            ));
        }
    }
    faults.extend(arrows.iter().filter(|arrow| runs_up(house, arrow)).map(|arrow| {
        let to = room_name(&arrow.to).map_or("the crate's root".into(), |room| format!("the later room `{room}`"));
        format!("{src}/{}:{}: `{}` is of {to} ({src}/{})", arrow.from, arrow.line, arrow.path, arrow.to)
    }));
    // A circle through several rooms has an arrow that runs up, which is reported already.
    let inside: Vec<Arrow> =
        arrows.into_iter().filter(|arrow| room_name(&arrow.from) == room_name(&arrow.to)).collect();
    faults.extend(graph::circles(&inside).iter().map(|circle| {
        let mut text = String::from("a circle of files:");
        for arrow in circle {
            let _ = write!(text, "\n    {src}/{}:{}: `{}` → {}", arrow.from, arrow.line, arrow.path, arrow.to);
        }
        text
    }));
    faults
}

/// Whether a crate's name is `family`, or one of a family's (`candle_core` of `candle`).
fn is_crate(name: &str, family: &str) -> bool {
    name == family || name.strip_prefix(family).is_some_and(|rest| rest.starts_with('_'))
}

/// Whether an arrow leads to a later room, or to the crate's root.
fn runs_up(house: &House, arrow: &Arrow) -> bool {
    match (house.room(&arrow.from), house.room(&arrow.to)) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(from), Some(to)) => to > from,
    }
}

#[test]
fn rooms_import_only_from_rooms_before_them_and_nothing_runs_in_a_circle() {
    let faults: Vec<String> = HOUSES.iter().flat_map(|house| faults(house, &house.files())).collect();
    assert!(faults.is_empty(), "{} faults:\n{}\n", faults.len(), faults.join("\n"));
}

fn architecture() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap()
}

#[test]
fn architecture_shows_the_order_of_rooms() {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = words(&architecture());
    for house in HOUSES {
        assert!(text.contains(&words(&house.order())), "ARCHITECTURE.md lacks the line\n{}", house.order());
    }
}

#[test]
fn architecture_names_files_that_are_there() {
    let text = architecture();
    let quoted = text.split('`').skip(1).step_by(2);
    let paths = quoted.filter(|word| word.contains('/') && !word.contains(char::is_whitespace));
    let gone: Vec<&str> = paths.filter(|path| !Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists()).collect();
    assert!(gone.is_empty(), "ARCHITECTURE.md names what is not there: {}", gone.join(", "));
}
