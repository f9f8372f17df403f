//! JSON lines: one row a line, blank lines between them.

use std::io::{BufRead, Read};

use super::error::Reason;
use super::limits::{ChunkLimits, MAX_BLANK};
use super::row::{Chunk, Failure, RawRow};

/// A text's lines that are not blank, with their numbers.
pub(super) struct Lines<R> {
    reader: R,
    line: u64,
    /// Bytes of blank lines so far.
    blank: u64,
    limits: ChunkLimits,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(reader: R, limits: ChunkLimits) -> Lines<R> {
        Lines { reader, line: 0, blank: 0, limits }
    }

    /// The next rows; none and no failure at the end of the text.
    pub(super) fn chunk(&mut self) -> Chunk {
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        while chunk.len() < self.limits.rows && bytes < self.limits.bytes {
            match self.line() {
                Ok(Some(text)) if text.iter().all(u8::is_ascii_whitespace) => {
                    if let Err(failure) = self.skipped(text.len()) {
                        return (chunk, Some(failure));
                    }
                }
                Ok(Some(text)) => {
                    bytes += text.len();
                    chunk.push(RawRow::line(self.line, text));
                }
                Ok(None) => break,
                Err(failure) => return (chunk, Some(failure)),
            }
        }
        (chunk, None)
    }

    fn line(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        self.skip_blank_lines()?;
        let mut text = Vec::new();
        let most = self.limits.row.saturating_add(1);
        let read = self.reader.by_ref().take(most).read_until(b'\n', &mut text)?;
        if read == 0 {
            return Ok(None);
        }
        self.line = self.line.saturating_add(1);
        if read as u64 > self.limits.row {
            return Err(Failure { place: Some(self.line), reason: Reason::TooLong });
        }
        if self.line == 1 && text.starts_with(b"\xef\xbb\xbf") {
            text.drain(..3);
        }
        Ok(Some(text))
    }

    /// Goes past blank lines that the buffer holds whole: a small compressed file may have very many.
    fn skip_blank_lines(&mut self) -> Result<(), Failure> {
        loop {
            let buffer = self.reader.fill_buf()?;
            let blanks = buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let blanks = buffer.get(..blanks).unwrap_or_default();
            let Some(last) = blanks.iter().rposition(|&byte| byte == b'\n') else { return Ok(()) };
            let lines = blanks.iter().filter(|&&byte| byte == b'\n').count();
            self.line = self.line.saturating_add(lines as u64);
            self.reader.consume(last + 1);
            self.skipped(last + 1)?;
        }
    }

    /// Accounts for blank lines.
    fn skipped(&mut self, bytes: usize) -> Result<(), Failure> {
        self.blank = self.blank.saturating_add(bytes as u64);
        match self.blank > MAX_BLANK {
            true => Err(Failure { place: Some(self.line), reason: Reason::Blank }),
            false => Ok(()),
        }
    }

    pub(super) fn into_inner(self) -> R {
        self.reader
    }
}

#[cfg(test)]
mod tests {
    use super::super::limits::LIMITS;
    use super::*;
    use std::io::BufReader;

    /// A file that repeats itself without an end.
    struct Endless(&'static [u8], usize);

    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            for byte in buffer.iter_mut() {
                *byte = self.0[self.1 % self.0.len()];
                self.1 += 1;
            }
            Ok(buffer.len())
        }
    }

    fn endless(text: &'static [u8], limits: ChunkLimits) -> Lines<BufReader<Endless>> {
        Lines::new(BufReader::with_capacity(1 << 20, Endless(text, 0)), limits)
    }

    /// The lines of a chunk's rows, and that of the row that was too long.
    fn places((rows, failure): Chunk) -> (Vec<u64>, Option<u64>) {
        let too_long = failure.map(|failure| {
            assert!(matches!(failure.reason, Reason::TooLong));
            failure.place.unwrap()
        });
        (rows.iter().map(|row| row.place).collect(), too_long)
    }

    #[test]
    fn a_row_without_an_end_is_too_long_and_no_more_of_it_is_read() {
        assert_eq!(places(endless(b"x", LIMITS).chunk()), (vec![], Some(1)));
    }

    #[test]
    fn the_rows_before_one_that_is_too_long_are_still_read() {
        let limits = ChunkLimits { row: 8, ..LIMITS };
        let chunk = Lines::new(&b"one\n\ntwo\nmuch too long\n"[..], limits).chunk();
        assert_eq!(places(chunk), (vec![1, 3], Some(4)));
    }

    #[test]
    fn a_chunk_is_bounded_by_its_bytes_and_by_its_rows() {
        let chunk = |limits| endless(b"1234567\n", limits).chunk().0.len();
        assert_eq!(chunk(ChunkLimits { row: 8, rows: 100, bytes: 24 }), 3);
        assert_eq!(chunk(ChunkLimits { row: 8, rows: 2, bytes: 24 }), 2);
    }
}
