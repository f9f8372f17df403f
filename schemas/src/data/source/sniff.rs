//! What a file is, by its first bytes.

use super::error::Reason;

/// How a file's bytes are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// As text, which may turn out to be something else.
    Text,
    Gzip,
    Zstd,
    Parquet,
    ArrowFile,
    ArrowStream,
}

/// How a text's rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    Lines,
    Array,
}

const BINARY: [(&[u8], Format); 5] = [
    (b"\x1f\x8b", Format::Gzip),
    (b"\x28\xb5\x2f\xfd", Format::Zstd),
    (b"PAR1", Format::Parquet),
    (b"ARROW1\0\0", Format::ArrowFile),
    (b"\xff\xff\xff\xff", Format::ArrowStream),
];

/// Files that are no rows, by how they begin.
const OTHERS: [(&[u8], &str); 12] = [
    (b"PK\x03\x04", "a zip archive; unpack it"),
    (b"\xfd7zXZ\0", "compressed by xz; decompress it or use gzip or zstd"),
    (b"BZh", "compressed by bzip2; decompress it or use gzip or zstd"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive; unpack it"),
    (b"\x04\x22\x4d\x18", "compressed by lz4; decompress it or use gzip or zstd"),
    (b"PARE", "Parquet with an encrypted footer"),
    (b"FEA1", "Feather's first version; save it as Arrow or Parquet"),
    (b"ORC", "ORC; save it as Parquet"),
    (b"Obj\x01", "Avro; save it as Parquet"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"\x89HDF", "HDF5"),
    (b"%PDF", "a PDF"),
];

const ENCODINGS: [(&[u8], &str); 6] = [
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
    (b"{\0", "UTF-16 or UTF-32"),
    (b"[\0", "UTF-16 or UTF-32"),
];

/// The format of a file that begins like this.
pub(super) fn format(head: &[u8]) -> Format {
    // A skippable frame of zstd, which tools for parallel decompression put first: 0x184D2A50 to 0x184D2A5F.
    if head.get(1..4) == Some(b"\x2a\x4d\x18") && head.first().is_some_and(|first| first & 0xf0 == 0x50) {
        return Format::Zstd;
    }
    find(&BINARY, head).unwrap_or(Format::Text)
}

/// The layout of a text that begins like this; `packed` names what it was compressed by, if it was.
pub(super) fn layout(head: &[u8], packed: Option<&str>) -> Result<Layout, Reason> {
    if let Some(packed) = packed
        && format(head) != Format::Text
    {
        return Err(Reason::Kind(format!("{packed} around another binary format; decompress it")));
    }
    if let Some(encoding) = find(&ENCODINGS, head).or_else(|| wide(head)) {
        return Err(Reason::Encoding(encoding));
    }
    if let Some(other) = find(&OTHERS, head).or_else(|| tar(head)) {
        return Err(Reason::Kind(other.into()));
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    match text.first() {
        None | Some(b'{') => Ok(Layout::Lines),
        Some(b'[') => Ok(Layout::Array),
        Some(_) => lines_of_values(text),
    }
}

fn find<T: Copy>(kinds: &[(&[u8], T)], head: &[u8]) -> Option<T> {
    kinds.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, kind)| *kind)
}

/// Text without a mark whose first character is `{` or `[` in an encoding that begins with the high byte.
fn wide(head: &[u8]) -> Option<&'static str> {
    let text = head.iter().position(|&byte| byte != 0).filter(|zeros| matches!(zeros, 1 | 3))?;
    matches!(head.get(text), Some(b'{' | b'[')).then_some("UTF-16 or UTF-32")
}

fn tar(head: &[u8]) -> Option<&'static str> {
    (head.get(257..262) == Some(b"ustar")).then_some("a tar archive; unpack it")
}

/// Lines whose first one is JSON, if not an object, are read as such, so that the message is about that line.
fn lines_of_values(text: &[u8]) -> Result<Layout, Reason> {
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
    if serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok() || line.starts_with(b"\"") {
        return Ok(Layout::Lines);
    }
    let shown: String = String::from_utf8_lossy(line).chars().take(24).collect();
    let begins = format!("begins with `{}`", shown.trim_end().escape_debug());
    Err(Reason::Kind(match line {
        line if line.contains(&0) || !begins_as_text(line) => "neither text nor a known format".into(),
        line if line.contains(&b',') || line.contains(&b'\t') => format!("a table such as CSV ({begins})"),
        _ => format!("no JSON ({begins})"),
    }))
}

/// Whether the first bytes are UTF-8, but for a character that is cut.
fn begins_as_text(line: &[u8]) -> bool {
    let start = line.get(..24).unwrap_or(line);
    std::str::from_utf8(start).err().is_none_or(|error| error.error_len().is_none())
}
