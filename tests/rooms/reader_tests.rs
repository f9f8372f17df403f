//! What the reader of source sees in small crates written for it.

use crate::graph::{arrows, circles};
use crate::{House, faults, source};

fn files(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

/// Every arrow as `from → to`.
fn seen(source: &[(&str, &str)]) -> Vec<String> {
    let (arrows, _) = arrows(&source::modules(&files(source)).unwrap());
    arrows.iter().map(|arrow| format!("{} → {}", arrow.from, arrow.to)).collect()
}

/// Arrows of `a.rs` with this text, beside modules `b`, `c` and `d::e`.
fn seen_in(text: &str) -> Vec<String> {
    let source = [
        ("lib.rs", "mod a; mod b; mod c; mod d;"),
        ("a.rs", text),
        ("b.rs", "pub struct B; pub fn b() {}"),
        ("c.rs", "pub struct C;"),
        ("d/mod.rs", "mod e; pub use e::E; pub struct D;"),
        ("d/e.rs", "pub struct E;"),
    ];
    seen(&source)
}

#[test]
fn groups_renames_and_paths_in_code_count() {
    assert_eq!(seen_in("use crate::{b::{self, B as X}, c::C};"), ["a.rs → b.rs", "a.rs → c.rs"]);
    assert_eq!(seen_in("fn f() { crate::b::b() }"), ["a.rs → b.rs"]);
    assert_eq!(seen_in("fn f(_: super::c::C) {}"), ["a.rs → c.rs"]);
    assert_eq!(seen_in("use crate::b as x; fn f() { x::b() }"), ["a.rs → b.rs"]);
    assert_eq!(seen_in("fn f() { println!(\"{:?}\", crate::b::b()) }"), ["a.rs → b.rs"]);
    assert_eq!(seen_in("#[arg(value_parser = crate::b::b)] struct S;"), ["a.rs → b.rs"]);
    assert_eq!(seen_in("use crate::b::*;"), ["a.rs → b.rs"]);
    assert_eq!(seen_in("mod inner { fn f() { super::super::b::b() } }"), ["a.rs → b.rs"]);
    assert_eq!(seen_in("fn f() { use crate::c::C; }"), ["a.rs → c.rs"]);
    assert_eq!(
        seen_in("impl crate::b::B { fn f(&self) -> impl Sized + use<'_> { crate::c::C } }"),
        ["a.rs → b.rs", "a.rs → c.rs"]
    );
}

#[test]
fn names_lead_to_the_file_that_defines_them() {
    assert_eq!(seen_in("use crate::d::E;"), ["a.rs → d/e.rs"]);
    assert_eq!(seen_in("use crate::d::D;"), ["a.rs → d/mod.rs"]);
    assert_eq!(seen_in("use crate::d; fn f(_: d::E, _: d::e::E) {}"), ["a.rs → d/e.rs", "a.rs → d/mod.rs"]);
    let globs = [
        ("lib.rs", "mod a; mod d;"),
        ("a.rs", "use crate::d::E;"),
        ("d/mod.rs", "mod e; pub use e::*;"),
        ("d/e.rs", "pub struct E;"),
    ];
    assert_eq!(seen(&globs), ["a.rs → d/e.rs"]);
    let root = [("lib.rs", "mod a; mod b; pub use b::B;"), ("a.rs", "use crate::B;"), ("b.rs", "pub struct B;")];
    assert_eq!(seen(&root), ["a.rs → b.rs"]);
}

#[test]
fn comments_strings_visibility_and_tests_do_not_count() {
    assert_eq!(seen_in("// crate::b::b\n/* use crate::b; */\n/// [crate::b::b]\nfn f() {}"), [""; 0]);
    assert_eq!(
        seen_in("//! crate::b::b\nconst S: &str = \"crate::b::b\"; const R: &str = r#\"use crate::b;\"#;"),
        [""; 0]
    );
    assert_eq!(seen_in("pub(in crate::d) struct S; pub(super) fn f() {}"), [""; 0]);
    assert_eq!(seen_in("#[cfg(test)] mod tests { use crate::b::B; }"), [""; 0]);
    assert_eq!(seen_in("#[cfg(test)] use crate::{b::B, c::C};"), [""; 0]);
    assert_eq!(seen_in("#[cfg(all(test, unix))] #[allow(dead_code)] fn f<A, B>() { crate::b::b() }"), [""; 0]);
    assert_eq!(seen_in("struct S { #[cfg(test)] b: crate::b::B, c: crate::c::C }"), ["a.rs → c.rs"]);
    assert_eq!(seen_in("#[cfg(test)] use crate::b::B; use crate::c::C;"), ["a.rs → c.rs"]);
    assert_eq!(seen_in("#[cfg(not(test))] use crate::b::B;"), ["a.rs → b.rs"]);
    assert_eq!(seen_in("#[cfg(any(test, unix))] use crate::b::B;"), ["a.rs → b.rs"]);
    let elsewhere = [
        ("lib.rs", "mod a; mod b;"),
        ("a/mod.rs", "#[cfg(test)] mod tests;"),
        ("a/tests.rs", "use crate::b::B;"),
        ("b.rs", ""),
    ];
    assert_eq!(seen(&elsewhere), [""; 0]);
}

#[test]
fn re_exports_are_no_need_until_they_are_used() {
    let parent = |code| {
        [("lib.rs", "mod p;"), ("p/mod.rs", code), ("p/child.rs", "use super::Shared; pub struct Child(Shared);")]
    };
    let declares = parent("mod child; pub use child::Child; pub struct Shared;");
    assert_eq!(seen(&declares), ["p/child.rs → p/mod.rs"]);
    let uses = parent("mod child; pub use child::Child; pub struct Shared; fn f(_: Child) {}");
    assert_eq!(seen(&uses), ["p/child.rs → p/mod.rs", "p/mod.rs → p/child.rs"]);
}

#[test]
fn circles_are_found_once_each() {
    let source = [
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a.rs", "use crate::b::B; pub struct A;"),
        ("b.rs", "use crate::c::C; pub struct B;"),
        ("c.rs", "use crate::a::A; use crate::b::B; pub struct C;"),
    ];
    let (arrows, _) = arrows(&source::modules(&files(&source)).unwrap());
    let found: Vec<Vec<String>> =
        circles(&arrows).iter().map(|circle| circle.iter().map(|arrow| arrow.from.clone()).collect()).collect();
    assert_eq!(found, [vec!["b.rs", "c.rs"], vec!["a.rs", "b.rs", "c.rs"]]);
}

#[test]
fn faults_say_where_and_what() {
    let house = House { folder: "house", never: &["ort", "candle"], rooms: &["low", "high"] };
    let faults = |source: &[(&str, &str)]| faults(&house, &files(source));
    let good = [
        ("lib.rs", "mod low; mod high; pub use high::H;"),
        ("low.rs", "pub struct L;"),
        ("high.rs", "use crate::low::L;\npub struct H;"),
    ];
    assert_eq!(faults(&good), [""; 0]);
    let up = [good[0], ("low.rs", "\nuse crate::H;"), ("high.rs", "pub struct H;")];
    assert_eq!(faults(&up), ["house/src/low.rs:2: `crate::H` is of the later room `high` (house/src/high.rs)"]);
    let foreign =
        [good[0], ("low.rs", "use candle_core::Tensor;"), ("high.rs", "fn f() { ort::init(); sort::x(); order::y() }")];
    assert_eq!(
        faults(&foreign),
        ["house/src/high.rs:1: house must not import `ort`", "house/src/low.rs:1: house must not import `candle_core`"]
    );
    let unknown = [
        ("lib.rs", "mod low; mod attic; #[cfg(test)] mod tests;"),
        ("low.rs", ""),
        ("attic.rs", ""),
        ("tests/mod.rs", ""),
    ];
    assert_eq!(
        faults(&unknown),
        [
            "house/src/attic.rs: no room `attic` in the order house: low → high",
            "house/src: the order has a room `high` that is not there",
        ]
    );
    let root = [("lib.rs", "mod low; mod high; pub struct R;"), ("low.rs", "use crate::R;"), ("high.rs", "")];
    assert_eq!(faults(&root), ["house/src/low.rs:1: `crate::R` is of the crate's root (house/src/lib.rs)"]);
    let circle = [
        good[0],
        ("low/mod.rs", "mod a; mod b;"),
        ("low/a.rs", "use super::b::B; pub struct A;"),
        ("low/b.rs", "use super::a::A; pub struct B;"),
        ("high.rs", ""),
    ];
    assert_eq!(
        faults(&circle),
        [
            "a circle of files:\n    house/src/low/a.rs:1: `super::b::B` → low/b.rs\n    house/src/low/b.rs:1: `super::a::A` → low/a.rs"
        ]
    );
}
