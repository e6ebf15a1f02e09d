//! The bytes of records on disk: a version, then fields in a fixed order; numbers as LEB128, texts with their length before them.

mod change;

use std::sync::Arc;

use crate::{
    change::Change,
    document::{Fields, Key, Priority, Value},
};

/// The version every record starts with. Version 1 knew sets, merges and deletes; its records are read as they were meant.
const VERSION: u8 = 2;

/// The version of a record that ends with its checksum: the first bytes of the BLAKE3 hash of all before them.
const SUMMED: u8 = 3;

/// The version of such a record that also says how many buckets it closes, and whose write it is. Before, a write of samples closed one.
const PACKED: u8 = 4;

/// Bytes of a checksum.
pub const SUM_BYTES: usize = 8;

/// Bytes that hold most documents, so that few are moved while they are written.
const USUAL_BYTES: usize = 512;

/// Deepest nesting read back; what callers may write is far less deep.
pub(super) const MAX_DEPTH: usize = 64;

/// Reports bytes that are no record of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record at byte {at} is not readable")]
pub struct Corrupt {
    /// Where reading stopped.
    pub at: usize,
}

/// Holds one accepted write as it stands in the journal.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The document.
    pub key: Key,
    /// What is done to it.
    pub change: Change,
    /// How soon it must be sent.
    pub priority: Priority,
    /// When it was accepted, in microseconds since the epoch on the agent clock.
    pub accepted: i64,
    /// Samples the write stands for if it closes buckets; 0 for a caller's write.
    pub samples: u64,
    /// The buckets it closes.
    pub buckets: u64,
    /// Whose write it is: the name of the caller's token, empty if it has none.
    pub caller: Arc<str>,
}

/// Appends values to a record.
#[derive(Debug)]
pub struct Writer(Vec<u8>);

/// Takes values from a record, in the order they were appended.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Record {
    /// Appends the record's bytes.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        let start = bytes.len();
        let mut writer = Writer(std::mem::take(bytes));
        writer.byte(PACKED);
        writer.number(u64::from(self.priority == Priority::High));
        writer.signed(self.accepted);
        writer.number(self.samples);
        writer.number(self.buckets);
        writer.text(&self.caller);
        writer.text(&self.key.tenant);
        writer.text(&self.key.collection);
        writer.text(&self.key.id);
        writer.change(&self.change);
        *bytes = writer.finish();
        let sum = sum(bytes.get(start..).unwrap_or_default());
        bytes.extend(sum);
    }

    /// Reads a record back.
    ///
    /// # Errors
    /// [`Corrupt`] if the bytes are no record, or not what was written.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        let version = bytes.first().copied().unwrap_or_default();
        let bytes = match bytes.split_last_chunk::<SUM_BYTES>() {
            Some((record, found)) if version >= SUMMED => {
                if sum(record) != *found {
                    return Err(Corrupt { at: record.len() });
                }
                record
            }
            _ => bytes,
        };
        let mut reader = Reader::new(bytes)?;
        let priority = if reader.number()? == 1 { Priority::High } else { Priority::Normal };
        let accepted = reader.signed()?;
        let samples = reader.number()?;
        let (buckets, caller) = match version {
            PACKED.. => (reader.number()?, reader.shared()?),
            _ => (samples.min(1), Arc::from("")),
        };
        let (tenant, collection, id) = (reader.shared()?, reader.shared()?, reader.shared()?);
        let change = reader.change()?;
        reader.finish()?;
        Ok(Self { key: Key { tenant, collection, id }, change, priority, accepted, samples, buckets, caller })
    }
}

/// Returns the first bytes of the BLAKE3 hash of `bytes`.
#[must_use]
pub fn sum(bytes: &[u8]) -> [u8; SUM_BYTES] {
    let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(bytes).as_bytes();
    [a, b, c, d, e, f, g, h]
}

impl Writer {
    /// Starts a record.
    #[must_use]
    pub fn new() -> Self {
        let mut bytes = Vec::with_capacity(USUAL_BYTES);
        bytes.push(VERSION);
        Self(bytes)
    }

    /// Appends a number.
    pub fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    /// Appends a number that may be negative.
    pub fn signed(&mut self, number: i64) {
        self.number(((number << 1) ^ (number >> 63)).cast_unsigned());
    }

    /// Appends a double, bit for bit.
    pub fn double(&mut self, number: f64) {
        self.0.extend_from_slice(&number.to_bits().to_le_bytes());
    }

    /// Appends a text.
    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Appends named values.
    pub fn fields(&mut self, fields: &Fields) {
        self.number(fields.len() as u64);
        for (name, value) in fields {
            self.text(name);
            self.value(value);
        }
    }

    /// Ends the record.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.byte(0),
            Value::Boolean(boolean) => self.byte(if *boolean { 2 } else { 1 }),
            Value::Integer(integer) => {
                self.byte(3);
                self.signed(*integer);
            }
            Value::Double(double) => {
                self.byte(4);
                self.double(*double);
            }
            Value::Text(text) => {
                self.byte(5);
                self.text(text);
            }
            Value::Bytes(bytes) => {
                self.byte(6);
                self.bytes(bytes);
            }
            Value::Moment(micros) => {
                self.byte(7);
                self.signed(*micros);
            }
            Value::Array(values) => {
                self.byte(8);
                self.number(values.len() as u64);
                for value in values {
                    self.value(value);
                }
            }
            Value::Map(fields) => {
                self.byte(9);
                self.fields(fields);
            }
        }
    }
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> Reader<'a> {
    /// Starts reading a record.
    ///
    /// # Errors
    /// [`Corrupt`] if its version is none of ours.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Corrupt> {
        let mut reader = Self { bytes, at: 0 };
        if (1..=PACKED).contains(&reader.byte()?) { Ok(reader) } else { Err(reader.corrupt()) }
    }

    /// Takes a number.
    ///
    /// # Errors
    /// [`Corrupt`] if there is none.
    pub fn number(&mut self) -> Result<u64, Corrupt> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(self.corrupt())
    }

    /// Takes a number that a record of an earlier version does not have; 0 then.
    ///
    /// # Errors
    /// [`Corrupt`] if there is something else.
    pub fn number_if_any(&mut self) -> Result<u64, Corrupt> {
        if self.at == self.bytes.len() { Ok(0) } else { self.number() }
    }

    /// Takes a number that may be negative.
    ///
    /// # Errors
    /// [`Corrupt`] if there is none.
    pub fn signed(&mut self) -> Result<i64, Corrupt> {
        let number = self.number()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    /// Takes a double.
    ///
    /// # Errors
    /// [`Corrupt`] if there is none.
    pub fn double(&mut self) -> Result<f64, Corrupt> {
        let bytes = self.take(8)?;
        let bits = bytes.try_into().map(u64::from_le_bytes).map_err(|_| Corrupt { at: self.at })?;
        Ok(f64::from_bits(bits))
    }

    /// Takes a text.
    ///
    /// # Errors
    /// [`Corrupt`] if there is none.
    pub fn text(&mut self) -> Result<&'a str, Corrupt> {
        let bytes = self.counted()?;
        std::str::from_utf8(bytes).map_err(|_| self.corrupt())
    }

    /// Takes named values.
    ///
    /// # Errors
    /// [`Corrupt`] if there are none.
    pub fn fields(&mut self) -> Result<Fields, Corrupt> {
        self.fields_at(0)
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// [`Corrupt`] if there is.
    pub fn finish(&self) -> Result<(), Corrupt> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.corrupt()) }
    }

    fn corrupt(&self) -> Corrupt {
        Corrupt { at: self.at }
    }

    fn shared(&mut self) -> Result<Arc<str>, Corrupt> {
        self.text().map(Arc::from)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Corrupt> {
        let end = self.at.checked_add(count).ok_or(Corrupt { at: self.at })?;
        let taken = self.bytes.get(self.at..end).ok_or(Corrupt { at: self.at })?;
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Corrupt> {
        self.take(1)?.first().copied().ok_or(Corrupt { at: self.at })
    }

    fn counted(&mut self) -> Result<&'a [u8], Corrupt> {
        let count = self.number()?;
        self.take(usize::try_from(count).map_err(|_| self.corrupt())?)
    }

    fn fields_at(&mut self, depth: usize) -> Result<Fields, Corrupt> {
        let count = self.number()?;
        let mut fields = Fields::new();
        for _ in 0..count {
            let name = self.text()?.to_owned();
            fields.insert(name, self.value_at(depth + 1)?);
        }
        Ok(fields)
    }

    fn value_at(&mut self, depth: usize) -> Result<Value, Corrupt> {
        if depth > MAX_DEPTH {
            return Err(self.corrupt());
        }
        Ok(match self.byte()? {
            0 => Value::Null,
            1 => Value::Boolean(false),
            2 => Value::Boolean(true),
            3 => Value::Integer(self.signed()?),
            4 => Value::Double(self.double()?),
            5 => Value::Text(self.text()?.to_owned()),
            6 => Value::Bytes(self.counted()?.to_vec()),
            7 => Value::Moment(self.signed()?),
            8 => {
                let count = self.number()?;
                let mut values = Vec::new();
                for _ in 0..count {
                    values.push(self.value_at(depth + 1)?);
                }
                Value::Array(values)
            }
            9 => Value::Map(self.fields_at(depth)?),
            _ => return Err(self.corrupt()),
        })
    }
}

/// Returns the bytes of a stored document.
#[must_use]
pub fn encode_fields(fields: &Fields) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.fields(fields);
    writer.finish()
}

/// Returns the bytes of the document that `change` makes, if that needs neither what was there nor the time. They are those of
/// [`encode_fields`], as such a change has the form of its document.
#[must_use]
pub fn encode_whole(change: &Change) -> Option<Vec<u8>> {
    let Change::Replace(tree) = change else { return None };
    if change.is_timed() {
        return None;
    }
    let mut writer = Writer::new();
    writer.tree(tree);
    Some(writer.finish())
}

/// Reads a stored document back.
///
/// # Errors
/// [`Corrupt`] if the bytes are no document.
pub fn decode_fields(bytes: &[u8]) -> Result<Fields, Corrupt> {
    let mut reader = Reader::new(bytes)?;
    let fields = reader.fields()?;
    reader.finish()?;
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Record, Writer, decode_fields, encode_fields};
    use crate::{
        change::Change,
        document::{Fields, Key, Priority, Value},
    };

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Boolean),
            any::<i64>().prop_map(Value::Integer),
            any::<f64>().prop_map(Value::Double),
            ".*".prop_map(Value::Text),
            any::<Vec<u8>>().prop_map(Value::Bytes),
            any::<i64>().prop_map(Value::Moment),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::btree_map(".*", inner, 0..4).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_record_comes_back_as_it_was(
            fields in prop::collection::btree_map(".*", any_value(), 0..5),
            accepted in any::<i64>(),
            samples in any::<u64>(),
            buckets in any::<u64>(),
            caller in ".*",
            mode in 0..3,
        ) {
            let change = match mode { 0 => Change::set(fields), 1 => Change::merge(fields), _ => Change::Delete };
            let key = Key::new("default", "pools", "0x1");
            let caller = caller.into();
            let record = Record { key, change, priority: Priority::High, accepted, samples, buckets, caller };
            prop_assert_eq!(Record::decode(&encoded(&record)), Ok(record));
        }

        #[test]
        fn damaged_bytes_are_an_error_and_never_a_panic(bytes in any::<Vec<u8>>()) {
            let _ = Record::decode(&bytes);
            let _ = decode_fields(&bytes);
        }
    }

    fn record() -> Record {
        let change = Change::merge(Fields::from([("n".to_owned(), Value::Integer(300))]));
        let key = Key::new("default", "pools", "0x1");
        Record {
            key,
            change,
            priority: Priority::Normal,
            accepted: 1_795_342_500_000_000,
            samples: 15,
            buckets: 1,
            caller: "".into(),
        }
    }

    fn encoded(record: &Record) -> Vec<u8> {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        bytes
    }

    #[test]
    fn a_record_of_which_any_bit_has_changed_or_the_end_is_missing_is_corrupt() {
        let bytes = encoded(&Record { caller: "night".into(), ..record() });
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::decode(&changed).is_err(), "bit {bit}");
        }
        for end in 0..bytes.len() {
            assert!(Record::decode(&bytes[..end]).is_err(), "byte {end}");
        }
    }

    /// The bytes of [`record`] as they were before it said how many buckets it closes, and whose it is.
    fn before_packing(version: u8) -> Vec<u8> {
        let mut bytes = encoded(&record());
        bytes.truncate(bytes.len() - super::SUM_BYTES);
        bytes[0] = version;
        // After the version, the priority, eight bytes of time and the samples.
        assert_eq!((bytes.remove(11), bytes.remove(11)), (1, 0));
        bytes
    }

    #[test]
    fn a_record_from_before_there_were_checksums_is_read() {
        assert_eq!(Record::decode(&before_packing(super::VERSION)), Ok(record()));
    }

    #[test]
    fn a_record_from_before_documents_were_shared_closes_one_bucket_if_it_has_samples() {
        let mut bytes = before_packing(super::SUMMED);
        bytes.extend(super::sum(&bytes));
        assert_eq!(Record::decode(&bytes), Ok(record()));
        let mut writes = before_packing(super::SUMMED);
        writes[10] = 0;
        writes.extend(super::sum(&writes));
        assert_eq!(Record::decode(&writes).map(|record| (record.samples, record.buckets)), Ok((0, 0)));
    }

    #[test]
    fn a_cut_document_is_corrupt() {
        let bytes = encode_fields(&Fields::from([("a".to_owned(), Value::Integer(300))]));
        assert!(decode_fields(&bytes).is_ok());
        for end in 0..bytes.len() {
            assert!(decode_fields(&bytes[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn bytes_after_the_end_are_corrupt() {
        let mut writer = Writer::new();
        writer.fields(&Fields::new());
        writer.number(1);
        assert!(decode_fields(&writer.finish()).is_err());
    }
}
