//! Header compression of HTTP/2 (RFC 7541), read with bounds: what a table may hold, and what a block may grow to.

use std::collections::VecDeque;
use std::ops::Range;

/// Bytes that the dynamic table may hold, as each entry counts (RFC 7541, section 4.1). A client that was allowed more
/// names entries that are no longer there: those fields are not known, all others are.
const MOST_KEPT: usize = 4096;
/// Bytes that one block may grow to: each of its bytes may name a whole entry of the table.
const MOST_READ: usize = 65_536;

/// Entries that later blocks name by number, newest first.
#[derive(Clone, Debug)]
pub(super) struct Table {
    entries: VecDeque<(Vec<u8>, Vec<u8>)>,
    size: usize,
    /// What the client says its table may hold.
    limit: usize,
}

/// An entry of a table: name and value.
type Entry<'t> = (&'t [u8], &'t [u8]);

/// A field of a block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: Vec<u8>,
    pub(super) value: Vec<u8>,
    /// Where the value stands in the block, or what stands for the whole field.
    pub(super) span: Range<usize>,
    /// The value stands there as it is.
    pub(super) plain: bool,
}

/// Why a block could not be read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is cut off within a field.
    Short,
    /// It is not a header block.
    Malformed,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            limit: MOST_KEPT,
        }
    }
}

impl Table {
    /// Reads a block, field by field.
    pub(super) fn read(&mut self, block: &[u8], mut told: impl FnMut(Field)) -> Result<(), Fault> {
        let mut cursor = Cursor { block, at: 0 };
        let mut read = 0;
        while let Some(first) = block.get(cursor.at) {
            let field = match first {
                0x80.. => self.indexed(&mut cursor)?,
                0x40.. => self.literal(&mut cursor, 6, true)?,
                0x20.. => {
                    // Not more than it was, or what the server allows and is not seen here.
                    self.limit = cursor.number(5)?.min(MOST_KEPT);
                    self.shrink(0);
                    None
                }
                _ => self.literal(&mut cursor, 4, false)?,
            };
            let Some(field) = field else {
                continue;
            };
            read += field.name.len() + field.value.len();
            if read > MOST_READ {
                return Err(Fault::Malformed);
            }
            told(field);
        }
        Ok(())
    }

    fn indexed(&self, cursor: &mut Cursor<'_>) -> Result<Option<Field>, Fault> {
        let start = cursor.at;
        let index = cursor.number(7)?;
        let entry = self.entry(index)?;
        Ok(entry.map(|(name, value)| Field {
            name: name.to_vec(),
            value: value.to_vec(),
            span: start..cursor.at,
            plain: false,
        }))
    }

    fn literal(
        &mut self,
        cursor: &mut Cursor<'_>,
        bits: u32,
        kept: bool,
    ) -> Result<Option<Field>, Fault> {
        let name = match cursor.number(bits)? {
            0 => Some(cursor.string()?.0),
            index => self.entry(index)?.map(|(name, _)| name.to_vec()),
        };
        let (value, span, plain) = cursor.string()?;
        if kept {
            self.keep(name.clone().unwrap_or_default(), value.clone());
        }
        Ok(name.map(|name| Field {
            name,
            value,
            span,
            plain,
        }))
    }

    /// The entry of a number; `None` for one that is no longer known.
    fn entry(&self, index: usize) -> Result<Option<Entry<'_>>, Fault> {
        let place = index.checked_sub(1).ok_or(Fault::Malformed)?;
        if let Some((name, value)) = STATIC.get(place) {
            return Ok(Some((name.as_bytes(), value.as_bytes())));
        }
        let entry = self.entries.get(place - STATIC.len());
        Ok(entry.map(|(name, value)| (name.as_slice(), value.as_slice())))
    }

    fn keep(&mut self, name: Vec<u8>, value: Vec<u8>) {
        let size = cost(&name, &value);
        self.shrink(size);
        if size <= self.limit {
            self.size += size;
            self.entries.push_front((name, value));
        }
    }

    /// Makes room for so many bytes.
    fn shrink(&mut self, room: usize) {
        while self.size.saturating_add(room) > self.limit {
            let Some((name, value)) = self.entries.pop_back() else {
                return;
            };
            self.size = self.size.saturating_sub(cost(&name, &value));
        }
    }
}

/// What an entry counts for (RFC 7541, section 4.1).
fn cost(name: &[u8], value: &[u8]) -> usize {
    name.len() + value.len() + 32
}

/// Where reading stands in a block.
struct Cursor<'b> {
    block: &'b [u8],
    at: usize,
}

impl Cursor<'_> {
    fn byte(&mut self) -> Result<u8, Fault> {
        let byte = self.block.get(self.at).ok_or(Fault::Short)?;
        self.at += 1;
        Ok(*byte)
    }

    /// A number that begins in the last `bits` of a byte (RFC 7541, section 5.1).
    fn number(&mut self, bits: u32) -> Result<usize, Fault> {
        // No honest number needs more; those beyond are not followed.
        const SHIFTS: [u32; 3] = [0, 7, 14];
        let most = (1_usize << bits) - 1;
        let first = usize::from(self.byte()?) & most;
        if first < most {
            return Ok(first);
        }
        let mut number = first;
        for shift in SHIFTS {
            let byte = usize::from(self.byte()?);
            number += (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Fault::Malformed)
    }

    /// A string, where it stands, and whether it stands there as it is.
    fn string(&mut self) -> Result<(Vec<u8>, Range<usize>, bool), Fault> {
        let coded = self.block.get(self.at).ok_or(Fault::Short)? & 0x80 != 0;
        let length = self.number(7)?;
        let span = self.at..self.at + length;
        let bytes = self.block.get(span.clone()).ok_or(Fault::Short)?;
        self.at = span.end;
        let text = match coded {
            true => huffman(bytes).ok_or(Fault::Malformed)?,
            false => bytes.to_vec(),
        };
        Ok((text, span, !coded))
    }
}

/// Decodes a string (RFC 7541, section 5.2). The code is canonical: of each length the codes follow one another, in the
/// order of their symbols, so what is read bit by bit needs no tree.
fn huffman(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(bytes.len() * 2);
    let (mut code, mut length) = (0_u32, 0_usize);
    for byte in bytes {
        for bit in (0..8).rev() {
            code = code << 1 | u32::from(byte >> bit & 1);
            length += 1;
            let of = CODES.get(length)?;
            let Some(place) = code.checked_sub(of.first).filter(|place| *place < of.count) else {
                continue;
            };
            let symbol = *SYMBOLS.get((of.start + place) as usize)?;
            // The mark of the end is no symbol of a string.
            text.push(u8::try_from(symbol).ok()?);
            (code, length) = (0, 0);
        }
    }
    // What is left over is the beginning of that mark, less than a byte of it.
    (length < 8 && code == (1 << length) - 1).then_some(text)
}

/// The codes of one length: the first, how many there are, where their symbols stand.
#[derive(Clone, Copy)]
struct Codes {
    first: u32,
    count: u32,
    start: u32,
}

/// Symbols in the order of their codes.
static SYMBOLS: [u16; 257] = TABLES.0;
static CODES: [Codes; 31] = TABLES.1;

const TABLES: ([u16; 257], [Codes; 31]) = tables();

#[expect(
    clippy::indexing_slicing,
    reason = "run by the compiler, which refuses what lies outside"
)]
const fn tables() -> ([u16; 257], [Codes; 31]) {
    let mut symbols = [0; 257];
    let mut codes = [Codes {
        first: 0,
        count: 0,
        start: 0,
    }; 31];
    let (mut next, mut placed, mut length) = (0_u32, 0, 1);
    while length < 31 {
        next <<= 1;
        codes[length].first = next;
        codes[length].start = placed as u32;
        let mut symbol = 0;
        while symbol < 257 {
            if LENGTHS[symbol] as usize == length {
                symbols[placed] = symbol as u16;
                placed += 1;
                next += 1;
                codes[length].count += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    (symbols, codes)
}

/// Lengths of the codes in bits, by symbol; the last is the mark of the end (RFC 7541, appendix B).
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// Fields that every table begins with, by number from 1 (RFC 7541, appendix A).
static STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;

    fn fields(table: &mut Table, hex: &str) -> Result<Vec<(String, String)>, Fault> {
        let block = HEXLOWER.decode(hex.as_bytes()).unwrap();
        let mut fields = Vec::new();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        table.read(&block, |field| {
            fields.push((text(field.name), text(field.value)))
        })?;
        Ok(fields)
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        let pairs = expected.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    /// RFC 7541, appendices C.3 and C.4: three requests of one connection, without and with Huffman code.
    #[test]
    fn the_examples_of_the_standard_are_read() {
        let plain = [
            "828684410f7777772e6578616d706c652e636f6d",
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ];
        let coded = [
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ];
        for blocks in [plain, coded] {
            let mut table = Table::default();
            let [first, second, third] = blocks.map(|hex| fields(&mut table, hex).unwrap());
            let common = [(":method", "GET"), (":scheme", "http"), (":path", "/")];
            let authority = (":authority", "www.example.com");
            assert_eq!(first, pairs(&[&common[..], &[authority]].concat()));
            let cache = ("cache-control", "no-cache");
            assert_eq!(second, pairs(&[&common[..], &[authority, cache]].concat()));
            let expected = [
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/index.html"),
                authority,
                ("custom-key", "custom-value"),
            ];
            assert_eq!(third, pairs(&expected));
            assert_eq!(table.size, 164);
        }
    }

    #[test]
    fn what_is_no_block_is_refused_and_what_is_cut_off_is_short() {
        let read = |hex| fields(&mut Table::default(), hex);
        assert_eq!(
            read("80"),
            Err(Fault::Malformed),
            "no entry has the number 0"
        );
        assert_eq!(
            read("ffffffffff7f"),
            Err(Fault::Malformed),
            "a number without end"
        );
        assert_eq!(
            read("4184ffffffff"),
            Err(Fault::Malformed),
            "the mark of the end"
        );
        assert_eq!(read("41811e"), Err(Fault::Malformed), "padding of zeros");
        assert_eq!(read("410f7777"), Err(Fault::Short));
        assert_eq!(read("be"), Ok(Vec::new()), "an entry that is not known");
    }

    #[test]
    fn a_table_holds_no_more_than_its_bound_and_a_block_grows_to_no_more_than_its_own() {
        let mut table = Table::default();
        let entry = [&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e][..], &[b'v'; 4000]].concat();
        table.read(&entry, |_| {}).unwrap();
        assert_eq!((table.entries.len(), table.size), (1, 4033));
        table.read(&entry, |_| {}).unwrap();
        assert_eq!((table.entries.len(), table.size), (1, 4033));
        assert_eq!(table.read(&[0xbe; 4096], |_| {}), Err(Fault::Malformed));
        table.read(&[0x20], |_| {}).unwrap();
        assert_eq!((table.entries.len(), table.size), (0, 0));
    }
}
