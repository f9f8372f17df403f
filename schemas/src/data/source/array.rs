//! A JSON array of rows, element by element: only where an element ends is found out here, so that elements can be parsed
//! in parallel and one at a time is held.

use std::io::BufRead;

use super::error::Reason;
use super::limits::{ChunkLimits, MAX_BLANK};
use super::row::{Chunk, Failure, RawRow};

/// The elements of the array that a text is.
pub(super) struct Elements<R> {
    reader: R,
    limits: ChunkLimits,
    /// Elements so far.
    row: u64,
    /// Bytes of white space between elements so far.
    blank: u64,
    before: Before,
    at: At,
}

/// Lines before a byte, and characters before it on its line.
type Before = (usize, usize);
/// An element's text, and what comes before it.
type Element = (Vec<u8>, Before);

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Start,
    First,
    Next,
    Closed,
    End,
}

/// How far into an element the text is.
#[derive(Default)]
struct Inside {
    depth: usize,
    string: bool,
    escaped: bool,
}

impl Inside {
    /// Whether the element ends before this byte.
    fn ends(&mut self, byte: u8) -> bool {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.string => self.escaped = true,
            b'"' => self.string = !self.string,
            _ if self.string => {}
            b'[' | b'{' => self.depth = self.depth.saturating_add(1),
            b',' | b']' if self.depth == 0 => return true,
            b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        false
    }
}

impl<R: BufRead> Elements<R> {
    pub(super) fn new(reader: R, limits: ChunkLimits) -> Elements<R> {
        Elements { reader, limits, row: 0, blank: 0, before: (0, 0), at: At::Start }
    }

    /// The next elements; none and no failure at the end of the text.
    pub(super) fn chunk(&mut self) -> Chunk {
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        while chunk.len() < self.limits.rows && bytes < self.limits.bytes {
            match self.element() {
                Ok(Some((text, before))) => {
                    bytes += text.len();
                    chunk.push(RawRow::element(self.row, text, before));
                }
                Ok(None) => break,
                Err(failure) => return (chunk, Some(failure)),
            }
        }
        (chunk, None)
    }

    /// The next element; none at the end of the text.
    fn element(&mut self) -> Result<Option<Element>, Failure> {
        loop {
            match self.at {
                At::Start => self.open()?,
                At::First | At::Next => {
                    if let Some(element) = self.read_element()? {
                        self.row = self.row.saturating_add(1);
                        return Ok(Some(element));
                    }
                }
                // Only now, so that a bad last element is reported before what follows it.
                At::Closed => self.close()?,
                At::End => return Ok(None),
            }
        }
    }

    /// None for the end of an empty array.
    fn read_element(&mut self) -> Result<Option<Element>, Failure> {
        self.skip_blanks()?;
        let (before, mut text) = (self.before, Vec::new());
        let end = self.copy_element(&mut text)?;
        let first = self.at == At::First;
        self.at = if end == b']' { At::Closed } else { At::Next };
        match text.iter().all(u8::is_ascii_whitespace) {
            false => Ok(Some((text, before))),
            true if first && end == b']' => Ok(None),
            true => Err(self.failed("a value is missing beside a comma")),
        }
    }

    /// Reads what comes before the first element.
    fn open(&mut self) -> Result<(), Failure> {
        if self.reader.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
            self.reader.consume(3);
        }
        self.skip_blanks()?;
        self.at = At::First;
        match self.reader.fill_buf()?.first() {
            Some(b'[') => self.read(1),
            _ => return Err(self.failed("`[` is expected")),
        }
        Ok(())
    }

    /// Copies the text up to the comma or bracket after the element, which is returned.
    fn copy_element(&mut self, text: &mut Vec<u8>) -> Result<u8, Failure> {
        let mut inside = Inside::default();
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                return Err(Reason::Cut("its JSON array has no end").into());
            }
            let end = buffer.iter().position(|&byte| inside.ends(byte));
            let part = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
            if (text.len() as u64).saturating_add(part.len() as u64) > self.limits.row {
                return Err(Failure { place: Some(self.row.saturating_add(1)), reason: Reason::TooLong });
            }
            text.extend_from_slice(part);
            let last = end.and_then(|end| buffer.get(end)).copied();
            let read = part.len() + usize::from(last.is_some());
            self.read(read);
            if let Some(last) = last {
                return Ok(last);
            }
        }
    }

    /// Nothing but blanks may follow the array.
    fn close(&mut self) -> Result<(), Failure> {
        self.skip_blanks()?;
        self.at = At::End;
        match self.reader.fill_buf()?.is_empty() {
            true => Ok(()),
            false => Err(self.failed("more follows its end")),
        }
    }

    fn skip_blanks(&mut self) -> Result<(), Failure> {
        loop {
            let buffer = self.reader.fill_buf()?;
            let blanks = buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            if blanks == 0 {
                return Ok(());
            }
            self.read(blanks);
            self.blank = self.blank.saturating_add(blanks as u64);
            if self.blank > MAX_BLANK {
                return Err(Failure { place: Some(self.row.saturating_add(1)), reason: Reason::Blank });
            }
        }
    }

    /// Takes bytes that are in the reader's buffer.
    fn read(&mut self, bytes: usize) {
        // Without an error: the buffer is not empty.
        if let Ok(buffer) = self.reader.fill_buf() {
            self.before = after(self.before, buffer.get(..bytes).unwrap_or(buffer));
        }
        self.reader.consume(bytes);
    }

    fn failed(&self, what: &str) -> Failure {
        Reason::Array(format!("{what} at line {}, column {}", self.before.0 + 1, self.before.1 + 1)).into()
    }

    pub(super) fn into_inner(self) -> R {
        self.reader
    }
}

/// What comes before what follows these bytes.
fn after((lines, characters): Before, bytes: &[u8]) -> Before {
    // The bytes of a character after its first are 0b10xxxxxx.
    let count = |bytes: &[u8]| bytes.iter().filter(|&&byte| byte & 0xc0 != 0x80).count();
    match bytes.iter().rposition(|&byte| byte == b'\n') {
        None => (lines, characters + count(bytes)),
        Some(last) => {
            let breaks = bytes.iter().filter(|&&byte| byte == b'\n').count();
            (lines + breaks, count(bytes.get(last + 1..).unwrap_or_default()))
        }
    }
}
