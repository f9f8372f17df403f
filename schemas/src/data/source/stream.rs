//! A file's text as it was before it was compressed.

use std::io::{self, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

use super::error::Reason;
use super::hashed::Hashed;

const BUFFER: usize = 1 << 20;
/// Bytes of a text that say what it is.
const HEAD: u64 = 1 << 16;

/// The bytes of a file, decompressed if need be.
pub(super) enum Stream {
    Plain(Hashed),
    /// One gzip member after the other, and whether the first began as it should.
    Gzip(Box<MultiGzDecoder<BufReader<Hashed>>>, bool),
    /// One zstd frame after the other.
    Zstd(Box<zstd::Decoder<'static, BufReader<Hashed>>>),
}

/// A text whose first bytes were looked at.
pub(super) type Text = BufReader<io::Chain<Cursor<Vec<u8>>, Stream>>;

impl Stream {
    pub(super) fn gzip(file: Hashed) -> Stream {
        let decoder = Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER, file)));
        let begun = decoder.header().is_some();
        Stream::Gzip(decoder, begun)
    }

    pub(super) fn zstd(file: Hashed) -> io::Result<Stream> {
        Ok(Stream::Zstd(Box::new(zstd::Decoder::with_buffer(BufReader::with_capacity(BUFFER, file))?)))
    }

    /// The text, and its first bytes, which stay to be read.
    pub(super) fn text(mut self) -> io::Result<(Text, Vec<u8>)> {
        let mut head = Vec::new();
        self.by_ref().take(HEAD).read_to_end(&mut head)?;
        let text = BufReader::with_capacity(BUFFER, Cursor::new(head.clone()).chain(self));
        Ok((text, head))
    }

    /// The file beneath.
    pub(super) fn into_file(self) -> Hashed {
        match self {
            Stream::Plain(file) => file,
            Stream::Gzip(decoder, _) => decoder.into_inner().into_inner(),
            Stream::Zstd(decoder) => decoder.finish().into_inner(),
        }
    }

    /// Whether the last member has ended and the next has not begun.
    fn between_members(&self) -> bool {
        matches!(self, Stream::Gzip(decoder, true) if decoder.header().is_none())
    }

    fn format(&self) -> Option<&'static str> {
        match self {
            Stream::Plain(_) => None,
            Stream::Gzip(..) => Some("gzip"),
            Stream::Zstd(_) => Some("zstd"),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match self {
            Stream::Plain(file) => file.read(buffer),
            Stream::Gzip(decoder, _) => decoder.read(buffer),
            Stream::Zstd(decoder) => decoder.read(buffer),
        };
        read.map_err(|error| match (self.format(), error.kind()) {
            (None, _) | (_, io::ErrorKind::Interrupted) => error,
            (Some(format), kind) if self.between_members() => io::Error::new(kind, Reason::Follows(format).to_string()),
            (Some(_), io::ErrorKind::UnexpectedEof) => {
                io::Error::new(error.kind(), Reason::Cut("its compressed data have no end").to_string())
            }
            (Some(format), kind) => {
                io::Error::new(kind, Reason::Damaged { format, reason: error.to_string() }.to_string())
            }
        })
    }
}
