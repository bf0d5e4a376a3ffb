//! Where texts come from: a file or standard input, whole or line by line, never more than a bound at once.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use anyhow::Context as _;

/// Longest text, in bytes; longer ones are withheld. Resources may be larger than texts of their own.
const TEXT_BYTES_MAX: u64 = 64 << 20;

/// A stream of texts.
pub(super) struct Source {
    reader: BufReader<Box<dyn Read>>,
}

/// A text, or `None` for one that is too long or not UTF-8.
type Text = Option<String>;

impl Source {
    /// Opens a file; `-` is standard input.
    pub(super) fn open(file: &Path) -> anyhow::Result<Self> {
        if file == Path::new("-") {
            return Ok(Self::of(io::stdin()));
        }
        let opened =
            File::open(file).with_context(|| format!("cannot read `{}`", file.display()))?;
        Ok(Self::of(opened))
    }

    pub(super) fn of(reader: impl Read + 'static) -> Self {
        Self {
            reader: BufReader::new(Box::new(reader)),
        }
    }

    /// All of it as one text.
    pub(super) fn whole(&mut self) -> io::Result<Text> {
        let mut bytes = Vec::new();
        (&mut self.reader)
            .take(TEXT_BYTES_MAX + 1)
            .read_to_end(&mut bytes)?;
        Ok(text(bytes))
    }

    /// The next line without its end; `None` when there is no more.
    pub(super) fn line(&mut self) -> io::Result<Option<Text>> {
        let mut bytes = Vec::new();
        let read = (&mut self.reader)
            .take(TEXT_BYTES_MAX + 1)
            .read_until(b'\n', &mut bytes)?;
        if read == 0 {
            return Ok(None);
        }
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        } else if bytes.len() as u64 > TEXT_BYTES_MAX {
            self.pass_over()?;
        }
        Ok(Some(text(bytes)))
    }

    /// Whether more input has already arrived.
    pub(super) fn has_more(&self) -> bool {
        !self.reader.buffer().is_empty()
    }

    fn pass_over(&mut self) -> io::Result<()> {
        loop {
            let buffer = self.reader.fill_buf()?;
            let (used, ended) = match buffer.iter().position(|byte| *byte == b'\n') {
                Some(at) => (at + 1, true),
                None => (buffer.len(), buffer.is_empty()),
            };
            self.reader.consume(used);
            if ended {
                return Ok(());
            }
        }
    }
}

fn text(bytes: Vec<u8>) -> Text {
    if bytes.len() as u64 > TEXT_BYTES_MAX {
        return None;
    }
    String::from_utf8(bytes).ok()
}
