//! Files of rows: each format as Python writes it, and each way a file can be bad.

use std::io::Write;
use std::path::{Path, PathBuf};

use frostline_schemas::data::{JsonError, RawRow, RowFile, SourceError};
use frostline_schemas::digest::Digest;
use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

/// Files by `row_files/make.py`.
fn made(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/row_files").join(name)
}

fn bytes_of(name: &str) -> Vec<u8> {
    std::fs::read(made(name)).unwrap()
}

fn raw(path: &Path) -> Result<(Vec<RawRow>, Digest), SourceError> {
    let mut file = RowFile::open(path)?;
    let mut rows = Vec::new();
    loop {
        match file.chunk()? {
            chunk if chunk.is_empty() => return Ok((rows, file.digest()?)),
            chunk => rows.extend(chunk),
        }
    }
}

fn objects(path: &Path) -> Vec<Json> {
    let (rows, digest) = raw(path).unwrap();
    assert_eq!(digest, Digest::of_file(path).unwrap());
    rows.iter().map(|row| Json::Object(row.object().unwrap())).collect()
}

fn file(content: impl AsRef<[u8]>) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    file
}

fn objects_of(content: impl AsRef<[u8]>) -> Vec<Json> {
    objects(file(content).path())
}

/// What is said of a file, without its path.
fn refused(content: impl AsRef<[u8]>) -> String {
    let file = file(content);
    let error = match raw(file.path()) {
        Err(error) => error.to_string(),
        Ok((rows, _)) => panic!("{} rows were read", rows.len()),
    };
    error.strip_prefix(file.path().to_str().unwrap()).unwrap().to_owned()
}

/// What is said of the first bad row of a file.
fn bad_row(content: impl AsRef<[u8]>) -> String {
    let (rows, _) = raw(file(content).path()).unwrap();
    rows.iter().map(RawRow::object).find_map(Result::err).unwrap().to_string()
}

fn expected(key: &str) -> Vec<Json> {
    let mut all: Map<String, Json> = serde_json::from_slice(&bytes_of("expected.json")).unwrap();
    let Some(Json::Array(rows)) = all.remove(key) else { panic!("no {key}") };
    rows
}

/// With the order of keys, which equality leaves aside.
fn same(found: &[Json], wanted: &[Json]) {
    for (found, wanted) in found.iter().zip(wanted) {
        assert_eq!(found.to_string(), wanted.to_string());
    }
    assert_eq!(found.len(), wanted.len());
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn the_same_rows_are_read_in_every_text_format() {
    for name in ["rows.jsonl", "rows.json", "rows.jsonl.gz", "rows.json.gz", "rows.jsonl.zst"] {
        same(&objects(&made(name)), &expected("rows"));
    }
}

#[cfg(feature = "parquet")]
mod columns {
    use super::*;
    use frostline_schemas::data::Unit;

    #[test]
    fn the_same_rows_are_read_in_every_codec_of_parquet() {
        for codec in ["none", "snappy", "gzip", "zstd", "brotli", "lz4", "datasets"] {
            same(&objects(&made(&format!("rows.{codec}.parquet"))), &expected("rows"));
        }
    }

    #[test]
    fn the_same_rows_are_read_in_every_format_of_arrow() {
        for format in ["stream", "lz4", "zstd", "plain"] {
            same(&objects(&made(&format!("rows.{format}.arrow"))), &expected("rows"));
        }
    }

    #[test]
    fn every_type_that_json_has_values_for_is_read_and_the_others_are_left_out_and_named() {
        same(&objects(&made("types.arrow")), &expected("types"));
        let mut wanted = expected("types");
        for row in &mut wanted {
            row.as_object_mut().unwrap().retain(|name, _| !name.ends_with("list_view"));
        }
        same(&objects(&made("types.parquet")), &wanted);
        for name in ["types.arrow", "types.parquet"] {
            let file = RowFile::open(&made(name)).unwrap();
            let left_out: Vec<&str> = file.left_out().iter().map(|(path, _)| path.as_str()).collect();
            assert_eq!(left_out, ["binary", "image.bytes", "date", "time", "decimal"]);
        }
    }

    #[test]
    fn texts_marked_as_json_are_the_values_that_they_write() {
        same(&objects(&made("json.parquet")), &expected("json"));
        same(&objects(&made("json.arrow")), &expected("json"));
    }

    #[test]
    fn many_batches_are_read_in_their_order_and_counted_from_one() {
        for name in ["many.parquet", "many.arrow"] {
            let (rows, _) = raw(&made(name)).unwrap();
            assert!(rows.iter().map(|row| row.place).eq(1..=5000), "{name}");
            let text = |row: &RawRow| row.object().unwrap()["text"].as_str().unwrap().to_owned();
            assert_eq!(text(&rows[4321]), "row 43", "{name}");
            assert_eq!(RowFile::open(&made(name)).unwrap().unit(), Unit::Row);
        }
    }

    #[test]
    fn a_file_of_nothing_but_images_has_rows_without_keys() {
        for name in ["images.arrow", "images.parquet"] {
            same(&objects(&made(name)), &[json!({}), json!({})]);
        }
    }

    #[test]
    fn two_columns_of_one_name_are_refused() {
        assert!(refused(bytes_of("twice.parquet")).ends_with("two columns are named `text`"));
    }

    #[test]
    fn a_file_cut_anywhere_is_an_error() {
        for name in ["rows.zstd.parquet", "rows.zstd.arrow", "rows.plain.arrow"] {
            let whole = bytes_of(name);
            for end in (12..whole.len()).step_by(7) {
                refused(&whole[..end]);
            }
        }
        let stream = bytes_of("rows.stream.arrow");
        assert!(refused(&stream[..stream.len() - 20]).contains("is cut short"));
    }

    #[test]
    fn an_arrow_stream_that_goes_on_after_its_end_is_refused() {
        let stream = bytes_of("rows.stream.arrow");
        assert!(refused([&stream[..], b"more"].concat()).contains("more follows the stream's end"));
    }

    #[test]
    fn a_batch_that_claims_more_bytes_than_there_are_takes_no_memory_for_them() {
        let mut compressed = bytes_of("many.arrow");
        // The length before compression stands before each compressed buffer, whose own first bytes are zstd's.
        let at = compressed.windows(4).position(|bytes| bytes == b"\x28\xb5\x2f\xfd").unwrap();
        compressed[at - 8..at].copy_from_slice(&(1_i64 << 60).to_le_bytes());
        assert!(refused(compressed).contains("smaller batches"));
    }

    /// A Parquet file whose schema is these groups, each with the number of children that it claims.
    fn groups(children: &[i64]) -> Vec<u8> {
        let varint = |mut value: u64| {
            let mut bytes = Vec::new();
            while value > 0x7f {
                bytes.push(value as u8 | 0x80);
                value >>= 7;
            }
            bytes.push(value as u8);
            bytes
        };
        // Thrift's compact protocol: version 1, then a list of structs with repetition, name and number of children.
        let mut footer = [&[0x15, 0x02, 0x19, 0xfc][..], &varint(children.len() as u64)].concat();
        for &children in children {
            footer.extend([0x35, 0x02, 0x18, 0x01, b'g', 0x15]);
            footer.extend(varint(children as u64 * 2));
            footer.push(0);
        }
        footer.push(0);
        let length = (footer.len() as u32).to_le_bytes();
        [&b"PAR1"[..], &footer, &length, b"PAR1"].concat()
    }

    #[test]
    fn a_schema_that_is_nested_too_deeply_or_claims_too_many_columns_is_refused() {
        for children in [&vec![1; 1_000_000][..], &[i64::from(i32::MAX)], &[2, i64::from(i32::MAX), 0]] {
            assert!(refused(groups(children)).contains("nested too deeply, or are fewer than it says"));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        /// Damage to a real file is an error or goes unnoticed, and never a panic.
        #[test]
        fn no_damage_panics(
            name in prop::sample::select(vec![
                "rows.zstd.parquet", "rows.none.parquet", "rows.snappy.parquet", "types.parquet", "json.parquet",
                "rows.stream.arrow", "rows.lz4.arrow", "types.arrow", "json.arrow",
            ]),
            places: [prop::sample::Index; 3],
            bytes: [u8; 3],
        ) {
            let mut content = bytes_of(name);
            for (place, byte) in places.iter().zip(bytes) {
                let at = place.index(content.len());
                content[at] = byte;
            }
            if let Ok((rows, _)) = raw(file(content).path()) {
                rows.iter().for_each(|row| drop(row.object()));
            }
        }
    }
}

#[cfg(not(feature = "parquet"))]
#[test]
fn a_build_without_parquet_says_so() {
    for (name, what) in [("rows.none.parquet", "Parquet"), ("rows.stream.arrow", "Arrow"), ("rows.lz4.arrow", "Arrow")]
    {
        let said = refused(bytes_of(name));
        assert!(said.contains(what) && said.ends_with("it lacks the feature `parquet`"), "{said}");
    }
}

#[test]
fn rows_are_counted_by_lines_or_by_their_number() {
    let lines = file("\n{\"a\": 1}\n\n{\"a\": 2}\n");
    let places: Vec<u64> = raw(lines.path()).unwrap().0.iter().map(|row| row.place).collect();
    assert_eq!((places, RowFile::open(lines.path()).unwrap().unit().to_string()), (vec![2, 4], "line".into()));
    let array = file("[\n{\"a\": 1},\n\n{\"a\": 2}]\n");
    let places: Vec<u64> = raw(array.path()).unwrap().0.iter().map(|row| row.place).collect();
    assert_eq!((places, RowFile::open(array.path()).unwrap().unit().to_string()), (vec![1, 2], "row".into()));
}

#[test]
fn a_byte_order_mark_and_blanks_are_no_row() {
    for content in ["\u{feff}{\"a\": 1}\r\n", " \u{0020}\n{\"a\": 1}", "\u{feff} [ {\"a\": 1} ] ", "[{\"a\":1}]"] {
        same(&objects_of(content), &[json!({"a": 1})]);
    }
    assert_eq!(objects_of("").len() + objects_of(" \n\n").len() + objects_of("[ ]").len(), 0);
}

#[test]
fn numbers_keep_their_kind_and_keys_their_order() {
    let text = r#"{"z":1.0,"a":1,"n":-9223372036854775808,"u":18446744073709551615,"f":0.1,"e":1e300,"s":"100000000000000000000"}"#;
    assert_eq!(objects_of(text)[0].to_string(), text.replace("1e300", "1e+300"));
    assert_eq!(objects_of(r#"{"big": 1e20}"#)[0]["big"], json!(1e20));
}

#[test]
fn a_whole_number_beyond_64_bits_is_refused_and_not_rounded() {
    let reason = "column 22: a whole number beyond 64 bits; write it as a string";
    assert_eq!(bad_row(r#"{"s": "1e9\"", "n": [100000000000000000000]}"#), reason);
    assert!(bad_row(r#"{"n": -9223372036854775809}"#).contains("a whole number beyond"));
}

#[test]
fn a_key_that_stands_twice_is_refused_at_any_depth() {
    assert_eq!(bad_row(r#"{"a": 1, "b": 2, "a": 3}"#), "column 20: the key `a` stands twice in an object");
    assert!(bad_row(r#"{"a": [{"b": {"c": 1, "\u0063": 2}}]}"#).contains("the key `c` stands twice"));
    assert!(bad_row(r#"[{"a": 1, "a": 3}]"#).contains("the key `a` stands twice"));
}

#[test]
fn what_python_writes_and_json_lacks_is_named() {
    assert_eq!(bad_row(r#"{"a": NaN}"#), "column 7: JSON has no `NaN`; write null or leave the key out");
    assert!(bad_row(r#"{"a": [1, -Infinity]}"#).contains("JSON has no `-Infinity`"));
    assert!(bad_row(r#"{"a": None}"#).contains("`None` is Python"));
    assert!(bad_row("{'a': 1}").contains("JSON's quotes are double quotes"));
}

#[test]
fn json_that_is_no_object_is_named() {
    let said = |text: &str| bad_row(format!("{{\"a\": 1}}\n{text}\n"));
    assert_eq!(said("[1]"), "an array where an object is expected");
    assert_eq!(said("\"a\""), "a string where an object is expected");
    assert_eq!(said("7"), "a number where an object is expected");
    assert_eq!(said("null"), "null where an object is expected");
    assert_eq!(bad_row("[{}, 1]"), "a number where an object is expected");
}

#[test]
fn a_line_that_ends_within_a_value_is_named() {
    let cut = "the text ends within a value: is it cut short, or a value written over several lines?";
    assert_eq!(bad_row("{\"a\": \"b"), format!("column 9: {cut}"));
    assert!(bad_row("{\n  \"a\": 1\n}\n").contains(cut));
}

#[test]
fn half_a_surrogate_pair_is_refused_and_a_whole_one_is_read() {
    assert!(bad_row(r#"{"a": "\ud83d"}"#).contains("half of a surrogate pair"));
    assert!(bad_row(r#"{"a": "\ud83dx"}"#).contains("half of a surrogate pair"));
    assert!(bad_row(r#"{"a": "\ude00"}"#).contains("half of a surrogate pair"));
    assert_eq!(objects_of(r#"{"a": "\ud83d\ude00"}"#)[0]["a"], "😀");
}

#[test]
fn a_control_character_within_a_string_is_refused() {
    assert!(bad_row("{\"a\": \"b\tc\"}").contains("a control character within a string"));
    assert!(bad_row("{\"a\": 1}\0").contains("a zero byte"));
}

#[test]
fn text_in_another_encoding_is_named_with_its_cure() {
    let wide = |text: &str, big: bool| -> Vec<u8> {
        text.encode_utf16().flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
    };
    for text in ["\u{feff}{\"a\": 1}\n", "{\"a\": 1}\n"] {
        for big in [true, false] {
            assert!(refused(wide(text, big)).contains("UTF-16"));
            assert!(refused(gzip(&wide(text, big))).contains("save it as UTF-8"));
        }
    }
    assert_eq!(
        bad_row(b"{\"a\": \"Gr\xfc\xdfe\"}"),
        "column 10: the byte 0xFC is not UTF-8; if the file is in Latin-1 or Windows-1252, save it as UTF-8"
    );
}

#[test]
fn deep_nesting_is_refused() {
    let deep = |depth: usize| format!("{{\"a\": {}{}}}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(objects_of(deep(120)).len(), 1);
    assert!(bad_row(deep(200_000)).contains("nested deeper than 127 levels"));
    assert!(bad_row(format!("[{}]", deep(200_000))).contains("nested deeper than 127 levels"));
}

#[test]
fn a_row_of_more_values_than_memory_is_to_be_taken_for_is_refused() {
    let row = |value: &str, times: usize| format!("{{\"a\": [{}{value}]}}", format!("{value},").repeat(times));
    assert_eq!(objects_of(row("1", 1_000_000)).len(), 1);
    assert!(bad_row(row("1", 3_000_000)).ends_with(": a row with more than 2097152 values and keys"));
    for value in ["[]", "{}", "[1]"] {
        assert_eq!(objects_of(row(value, 100_000)).len(), 1);
        let said = bad_row(row(value, 200_000));
        assert!(said.ends_with(": a row with more than 131072 objects and arrays"), "{said}");
    }
}

#[test]
fn what_is_wrong_with_a_text_is_named_with_its_cure() {
    let second = |text: &str| {
        let (rows, _) = raw(file(text).path()).unwrap();
        rows[1].object().unwrap_err().to_string()
    };
    assert_eq!(
        second("{}\n\u{feff}{}"),
        "column 1: a byte order mark within the file, as joined files have it; take it out"
    );
    assert!(bad_row("{}\r{}\r").contains("line ends of a lone carriage return, as of old Macs"));
    let between = "a second value; between rows stands a line break or, in a JSON array, a comma";
    assert!(bad_row("{} {}").contains(between));
    assert!(bad_row("[{} {}]").contains(between));
    assert!(bad_row("{},\n{}").contains("a comma after the row; JSON lines have none between them"));
    assert!(bad_row(r#"{"a": 1 "b": 2}"#).contains("column 9: a comma is missing"));
    assert!(bad_row(r#"{"a": [1 2]}"#).contains("a comma is missing"));
    assert!(bad_row(r#"{"a": "a "word" b"}"#).contains("expected `,` or `}`; within a string a quote is written as"));
    for commented in ["{\"a\": 1} // x", "{\"a\": 1, /* x */ \"b\": 1}", "[{\"a\": # x\n 1}]", "{\"a\": 1} # x"] {
        assert!(bad_row(commented).contains("JSON has no comments"), "{}", bad_row(commented));
    }
    assert!(bad_row("{text: 1}").contains("a key without quotes; JSON's keys are strings in double quotes"));
    assert!(bad_row(r#"{"nan": 1, "nan": 2}"#).contains("the key `nan` stands twice"));
}

#[test]
fn blank_lines_without_an_end_are_refused() {
    let blank = |bytes: usize| b"\n".repeat(bytes);
    let packed = |around: [&[u8]; 2]| gzip(&[around[0], &blank((1 << 26) + 1)[..], around[1]].concat());
    assert!(refused(packed([b"{}\n", b"{}\n"])).contains("more than 64 MiB of blank lines or other white space"));
    assert!(refused(packed([b"[{},", b"{}]"])).contains("more than 64 MiB of blank lines or other white space"));
    let (rows, _) = raw(file([b"{}", &blank(1 << 21)[..], b"{}"].concat()).path()).unwrap();
    assert_eq!(rows.iter().map(|row| row.place).collect::<Vec<_>>(), [1, (1 << 21) + 1]);
}

#[test]
fn an_array_that_is_not_one_is_refused_where_it_goes_wrong() {
    assert!(refused("[{\"a\": 1}").ends_with("is cut short: its JSON array has no end"));
    assert!(refused("[{\"a\": \"]}").ends_with("is cut short: its JSON array has no end"));
    assert!(refused("[{}]\n  {}").ends_with("not a JSON array: more follows its end at line 2, column 3"));
    assert!(refused("[{},\n]").ends_with("a value is missing beside a comma at line 2, column 2"));
    assert!(refused("[,{}]").contains("a value is missing beside a comma"));
    let second = "a second value; between rows stands a line break or, in a JSON array, a comma";
    assert!(bad_row("[{} {}]").contains(second));
    assert!(bad_row("[{]}]").contains("line 1, column 3: "));
    assert_eq!(
        bad_row("[{},\n  {\n  \"ä\": NaN}]"),
        "line 3, column 8: JSON has no `NaN`; write null or leave the key out"
    );
}

#[test]
fn what_is_no_file_of_rows_is_named() {
    let said = |content: &[u8]| refused(content);
    assert!(said(b"PK\x03\x04...").starts_with(": is a zip archive; unpack it; rows come as JSON lines"));
    assert!(said(b"\xfd7zXZ\0...").starts_with(": is compressed by xz"));
    assert!(said(b"BZh91AY&SY").starts_with(": is compressed by bzip2"));
    assert!(
        said(b"prompt,completion\na,b\n").starts_with(": is a table such as CSV (begins with `prompt,completion`)")
    );
    assert!(said(b"- prompt: a\n").starts_with(": is no JSON (begins with `- prompt: a`)"));
    assert!(said("Grüße und schöne Grüße äöü\n".as_bytes()).starts_with(": is no JSON (begins with `Grüße"));
    assert!(said(b"\x80\x04\x95").starts_with(": is neither text nor a known format"));
    assert!(said(&gzip(b"PAR1")).starts_with(": is gzip around another binary format"));
    let mut tar = vec![b'x'; 512];
    tar[257..262].copy_from_slice(b"ustar");
    assert!(said(&gzip(&tar)).starts_with(": is a tar archive"));
}

#[test]
fn one_object_that_holds_the_rows_is_named() {
    let said = refused(r#"{"version": "1", "data": [{"text": "a"}]}"#);
    assert!(said.starts_with(": is one object that holds rows under `data`"), "{said}");
    assert_eq!(objects_of("{\"data\": [{}]}\n{\"data\": [{}]}").len(), 2);
}

#[test]
fn what_is_no_regular_file_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let said = |path: &Path| RowFile::open(path).err().unwrap().to_string();
    assert!(said(folder.path()).contains(": is a folder, not a file; rows come as"));
    assert!(said(&folder.path().join("none")).contains("none: No such file"));
    #[cfg(unix)]
    assert!(said(Path::new("/dev/zero")).starts_with("/dev/zero: is a pipe or a device, not a file"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_pipe_is_refused_without_waiting_for_its_writer() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert!(RowFile::open(&pipe).err().unwrap().to_string().ends_with("as Parquet or as Arrow"));
}

#[test]
fn compressed_text_that_is_cut_or_damaged_is_an_error_after_the_rows_before_it() {
    for name in ["rows.jsonl.gz", "rows.json.gz", "rows.jsonl.zst"] {
        let whole = bytes_of(name);
        for end in 8..whole.len() {
            // Between two members nothing shows that more is missing, but the row that is cut there.
            if let Ok((rows, _)) = raw(file(&whole[..end]).path()) {
                assert!(rows.iter().any(|row| row.object().is_err()), "{name} up to {end}");
            }
        }
    }
    assert!(refused([gzip(b"{}\n"), b"junk\n".to_vec()].concat()).contains("more follows the end of its gzip data"));
    assert!(
        refused([gzip(b"{}\n"), b"garbage, and enough of it".to_vec()].concat())
            .contains("more follows the end of its gzip data")
    );
    let packed = gzip("{\"a\": 1}\n".repeat(100_000).as_bytes());
    let cut = file(&packed[..packed.len() - 9]);
    let mut rows = RowFile::open(cut.path()).unwrap();
    assert_eq!(rows.chunk().unwrap().len(), 4096);
    let error = std::iter::from_fn(|| Some(rows.chunk())).find_map(Result::err).unwrap();
    assert!(error.to_string().ends_with("is cut short: its compressed data have no end"), "{error}");
}

#[test]
fn a_row_that_is_too_long_once_decompressed_is_refused() {
    let bomb = gzip(&[b"[\"".as_slice(), &vec![b'x'; (1 << 26) + 1], b"\"]"].concat());
    assert!(refused(bomb).ends_with(" row 1: longer than 64 MiB"));
    let bomb = gzip(&[b"{}\n{\"".as_slice(), &vec![b'x'; (1 << 26) + 1]].concat());
    assert!(refused(bomb).ends_with(":2: longer than 64 MiB"));
}

#[test]
fn a_file_that_grows_or_shrinks_while_it_is_read_is_an_error() {
    for (content, change) in [("{}\n", &b"{}\n{}\n"[..]), ("[{}]", &b"[]"[..])] {
        let file = file(content);
        let mut rows = RowFile::open(file.path()).unwrap();
        while rows.chunk().is_ok_and(|rows| !rows.is_empty()) {}
        std::fs::write(file.path(), change).unwrap();
        assert!(rows.digest().unwrap_err().to_string().ends_with(": was changed while it was read"));
    }
}

/// JSON with the blanks, escapes and brackets that a scanner could stumble over.
fn value() -> impl Strategy<Value = Json> {
    let text = "[\\[\\]{},:\"\\\\ a-cä\u{1f600}\n]{0,6}";
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        text.prop_map(Json::from)
    ];
    leaf.prop_recursive(3, 12, 3, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Json::from),
            prop::collection::btree_map(text, inner, 0..3).prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

type Object = Result<Map<String, Json>, JsonError>;

fn parsed(content: &[u8]) -> Result<Vec<Object>, String> {
    let rows = raw(file(content).path()).map_err(|error| error.to_string())?.0;
    Ok(rows.iter().map(RawRow::object).collect())
}

proptest! {
    #[test]
    fn an_array_and_lines_of_the_same_rows_are_the_same_objects(
        rows in prop::collection::vec(prop::collection::btree_map("[a-c]", value(), 0..3), 0..6),
        pretty: bool,
    ) {
        let rows: Vec<Json> = rows.into_iter().map(|row| Json::Object(row.into_iter().collect())).collect();
        let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
        let array = if pretty { serde_json::to_string_pretty(&rows) } else { serde_json::to_string(&rows) }.unwrap();
        // A single row may be taken for an object that holds the rows; none of these keys do.
        same(&objects_of(lines), &rows);
        same(&objects_of(array), &rows);
    }

    #[test]
    fn an_array_is_split_where_serde_json_splits_it(text in "\\[[\\[\\]{},:\"\\\\ 1a]{0,12}\\]") {
        let wanted = serde_json::from_str::<Vec<Json>>(&text);
        match (wanted, parsed(text.as_bytes())) {
            (Ok(wanted), Ok(found)) => {
                prop_assert_eq!(wanted.len(), found.len());
                for (wanted, found) in wanted.iter().zip(found) {
                    match wanted {
                        Json::Object(wanted) => prop_assert_eq!(wanted, &found.unwrap()),
                        other => prop_assert!(found.is_err(), "{} is no object", other),
                    }
                }
            }
            (Ok(wanted), Err(error)) => prop_assert!(false, "{wanted:?}: {error}"),
            (Err(_), Ok(found)) => prop_assert!(found.iter().any(Result::is_err)),
            (Err(_), Err(_)) => {}
        }
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>, kind in 0_usize..8) {
        let magic: &[u8] = [&b""[..], b"PAR1", b"ARROW1\0\0", b"\xff\xff\xff\xff", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"[", b"{"][kind];
        let _ = parsed(&[magic, &bytes].concat());
    }
}
