//! Columns to the values that JSON has: what Parquet and Arrow files hold, as `datasets` would hand it to a template.
//!
//! - Texts, whole numbers, floats, true and false, null, lists and structs are what they are in JSON; a struct's missing
//!   values are null, as columns cannot leave keys out. Dictionaries are their values.
//! - A text that is marked as JSON (`datasets`' `Json`) is the value that it writes.
//! - A map is an object where its keys are texts, and otherwise a list of pairs.
//! - A float that is no number is the text `NaN`, `Infinity` or `-Infinity`: harmless in a column that no row form reads,
//!   and an error in one that must be a number.
//! - Columns and fields of other types (bytes, and so images; dates, times, decimals, unions) are left out of rows.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use serde_json::{Map, Number, Value as Json};

use super::limits::MAX_ROW;
use crate::data::json::{self, Count, JsonError};
use crate::guard::guarded;

/// Deepest nesting of columns read.
const DEPTH: usize = 64;

/// Rows of columns.
#[derive(Debug)]
pub(super) struct Batch {
    columns: RecordBatch,
    shape: Arc<Shape>,
}

/// What becomes of a column.
#[derive(Debug)]
pub(super) enum Shape {
    Absent,
    Plain,
    /// A text that writes a JSON value.
    Json,
    List(Box<Shape>),
    Struct(Vec<(String, Shape)>),
    Map(Box<Shape>, Box<Shape>),
}

/// The shape of a schema, and what it leaves out.
#[derive(Debug)]
pub(super) struct Shapes {
    /// A struct of all columns.
    pub(super) shape: Shape,
    /// Paths of columns and fields that are left out, and their types.
    pub(super) left_out: Vec<(String, String)>,
    /// Which of the columns' leaves, counted depth first, are kept.
    pub(super) kept: Vec<usize>,
}

/// Walks a schema.
struct Walk<'a> {
    json: &'a [bool],
    leaf: usize,
    left_out: Vec<(String, String)>,
    kept: Vec<usize>,
    twice: Option<String>,
}

impl Shapes {
    /// The shape of a schema; `json` says of its leaves whether they are JSON where the schema itself does not.
    ///
    /// # Errors
    /// The name that two columns, or two fields of a struct, share.
    pub(super) fn of(schema: &Schema, json: &[bool]) -> Result<Shapes, String> {
        let mut walk = Walk { json, leaf: 0, left_out: Vec::new(), kept: Vec::new(), twice: None };
        let shape = walk.fields("", &schema.fields, 0);
        match walk.twice {
            Some(name) => Err(format!("two columns are named `{}`", name.escape_debug())),
            None => Ok(Shapes { shape, left_out: walk.left_out, kept: walk.kept }),
        }
    }
}

impl Walk<'_> {
    fn fields(&mut self, path: &str, fields: &[Arc<Field>], depth: usize) -> Shape {
        let mut names = HashSet::new();
        let shapes = fields.iter().map(|field| {
            if !names.insert(field.name()) {
                self.twice = Some(field.name().clone());
            }
            let path = if path.is_empty() { field.name().clone() } else { format!("{path}.{}", field.name()) };
            (field.name().clone(), self.field(&path, field, depth))
        });
        Shape::Struct(shapes.collect())
    }

    fn field(&mut self, path: &str, field: &Field, depth: usize) -> Shape {
        let marked = field.metadata().get("ARROW:extension:name").is_some_and(|name| name == "arrow.json");
        self.shape(path, field.data_type(), marked, depth)
    }

    fn shape(&mut self, path: &str, data_type: &DataType, marked: bool, depth: usize) -> Shape {
        use DataType::{Dictionary, FixedSizeList, LargeList, LargeListView, List, ListView, Struct};
        if depth > DEPTH {
            return self.absent(path, "nested too deeply");
        }
        match data_type {
            List(inner) | LargeList(inner) | FixedSizeList(inner, _) | ListView(inner) | LargeListView(inner) => {
                match self.field(path, inner, depth + 1) {
                    Shape::Absent => Shape::Absent,
                    shape => Shape::List(Box::new(shape)),
                }
            }
            Struct(fields) => match self.fields(path, fields, depth + 1) {
                Shape::Struct(fields) if fields.iter().all(|(_, shape)| matches!(shape, Shape::Absent)) => {
                    Shape::Absent
                }
                shape => shape,
            },
            DataType::Map(entries, _) => self.map(path, entries, depth + 1),
            Dictionary(_, value) => self.shape(path, value, marked, depth + 1),
            leaf => self.leaf(path, leaf, marked),
        }
    }

    fn map(&mut self, path: &str, entries: &Field, depth: usize) -> Shape {
        let DataType::Struct(fields) = entries.data_type() else { return self.absent(path, "map") };
        let [key, value] = fields.as_ref() else { return self.absent(path, "map") };
        match (self.field(path, key, depth), self.field(path, value, depth)) {
            (Shape::Absent, _) | (_, Shape::Absent) => Shape::Absent,
            (key, value) => Shape::Map(Box::new(key), Box::new(value)),
        }
    }

    fn leaf(&mut self, path: &str, data_type: &DataType, marked: bool) -> Shape {
        let leaf = self.leaf;
        self.leaf += 1;
        let text = is_text(data_type);
        let json = text && (marked || self.json.get(leaf).copied().unwrap_or(false));
        let simple = text || matches!(data_type, DataType::Null | DataType::Boolean) || data_type.is_numeric();
        if simple && !is_decimal(data_type) {
            self.kept.push(leaf);
            return if json { Shape::Json } else { Shape::Plain };
        }
        self.absent(path, &data_type.to_string())
    }

    fn absent(&mut self, path: &str, data_type: &str) -> Shape {
        self.left_out.push((path.to_owned(), data_type.to_owned()));
        Shape::Absent
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_decimal(data_type: &DataType) -> bool {
    use DataType::{Decimal32, Decimal64, Decimal128, Decimal256};
    matches!(data_type, Decimal32(..) | Decimal64(..) | Decimal128(..) | Decimal256(..))
}

impl Batch {
    /// Rows of these columns, in the order of the shape's fields.
    pub(super) fn new(columns: RecordBatch, shape: Arc<Shape>) -> Batch {
        Batch { columns, shape }
    }

    /// How many rows there are.
    pub(super) fn rows(&self) -> usize {
        self.columns.num_rows()
    }

    /// A row's object.
    pub(super) fn object(&self, row: usize) -> Result<Map<String, Json>, JsonError> {
        let mut budget = Budget { bytes: MAX_ROW, count: Count::default() };
        let Shape::Struct(fields) = self.shape.as_ref() else { return Ok(Map::new()) };
        let cells = || budget.object(fields, self.columns.columns(), row);
        guarded(cells).unwrap_or_else(|panic| Err(JsonError::whole(format!("damaged columns: {panic}"))))
    }
}

/// What a row may still come to.
struct Budget {
    /// Bytes of JSON.
    bytes: u64,
    count: Count,
}

impl Budget {
    fn take(&mut self, bytes: usize) -> Result<(), JsonError> {
        let left = self.bytes.checked_sub(bytes as u64);
        self.bytes = left.ok_or_else(|| JsonError::whole(format!("longer than {} MiB", MAX_ROW >> 20)))?;
        Ok(())
    }

    fn value(&mut self) -> Result<(), JsonError> {
        self.count.value().map_err(JsonError::whole)
    }

    fn container(&mut self) -> Result<(), JsonError> {
        self.count.container().map_err(JsonError::whole)
    }

    fn object(
        &mut self,
        fields: &[(String, Shape)],
        columns: &[Arc<dyn Array>],
        row: usize,
    ) -> Result<Map<String, Json>, JsonError> {
        self.container()?;
        let mut object = Map::new();
        for ((name, shape), column) in fields.iter().zip(columns) {
            if !matches!(shape, Shape::Absent) {
                self.take(name.len() + 4)?;
                self.value()?;
                let value = self.cell(shape, column, row).map_err(|error| in_column(name, error))?;
                object.insert(name.clone(), value);
            }
        }
        Ok(object)
    }

    fn cell(&mut self, shape: &Shape, array: &dyn Array, row: usize) -> Result<Json, JsonError> {
        self.take(2)?;
        self.value()?;
        if array.is_null(row) {
            return Ok(Json::Null);
        }
        if let Some(dictionary) = array.as_any_dictionary_opt() {
            let key = whole(dictionary.keys(), row).and_then(|key| key.as_u64());
            let key = key.and_then(|key| usize::try_from(key).ok()).filter(|key| *key < dictionary.values().len());
            let key = key.ok_or_else(|| JsonError::whole("an index outside its dictionary"))?;
            return self.cell(shape, dictionary.values(), key);
        }
        match shape {
            Shape::Absent => Ok(Json::Null),
            Shape::Plain => self.plain(array, row),
            Shape::Json => {
                let text = text(array, row).unwrap_or_default();
                self.take(text.len())?;
                json::value(text.as_bytes(), &mut self.count)
            }
            Shape::List(inner) => self.list(inner, array, row),
            Shape::Struct(fields) => self.object(fields, array.as_struct().columns(), row).map(Json::Object),
            Shape::Map(key, value) => self.map(key, value, array, row),
        }
    }

    fn plain(&mut self, array: &dyn Array, row: usize) -> Result<Json, JsonError> {
        if let Some(text) = text(array, row) {
            self.take(text.len())?;
            return Ok(text.into());
        }
        Ok(match array.data_type() {
            DataType::Boolean => array.as_boolean().value(row).into(),
            DataType::Float16 => float(primitive::<Float16Type>(array, row).to_f64()),
            DataType::Float32 => float(primitive::<Float32Type>(array, row).into()),
            DataType::Float64 => float(primitive::<Float64Type>(array, row)),
            _ => whole(array, row).map_or(Json::Null, Json::Number),
        })
    }

    fn list(&mut self, inner: &Shape, array: &dyn Array, row: usize) -> Result<Json, JsonError> {
        self.container()?;
        let values = match array.data_type() {
            DataType::List(_) => array.as_list::<i32>().value(row),
            DataType::LargeList(_) => array.as_list::<i64>().value(row),
            DataType::ListView(_) => array.as_list_view::<i32>().value(row),
            DataType::LargeListView(_) => array.as_list_view::<i64>().value(row),
            _ => array.as_fixed_size_list().value(row),
        };
        (0..values.len()).map(|index| self.cell(inner, &values, index)).collect::<Result<_, _>>().map(Json::Array)
    }

    fn map(&mut self, key: &Shape, value: &Shape, array: &dyn Array, row: usize) -> Result<Json, JsonError> {
        let entries = array.as_map().value(row);
        let [keys, values] = entries.columns() else { return Ok(Json::Null) };
        self.container()?;
        let mut pairs = Vec::new();
        for index in 0..entries.len() {
            // Where keys are no texts, each pair is a list.
            self.container()?;
            pairs.push((self.cell(key, keys, index)?, self.cell(value, values, index)?));
        }
        if !is_text(keys.data_type()) {
            return Ok(pairs.into_iter().map(|(key, value)| Json::Array(vec![key, value])).collect());
        }
        let mut object = Map::new();
        for (key, value) in pairs {
            let key = key.as_str().unwrap_or_default();
            if object.insert(key.to_owned(), value).is_some() {
                return Err(JsonError::whole(format!("the key `{}` stands twice in a map", key.escape_debug())));
            }
        }
        Ok(Json::Object(object))
    }
}

fn in_column(name: &str, error: JsonError) -> JsonError {
    JsonError { reason: format!("column `{}`: {}", name.escape_debug(), error.reason), ..error }
}

fn text(array: &dyn Array, row: usize) -> Option<&str> {
    match array.data_type() {
        DataType::Utf8 => Some(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => Some(array.as_string::<i64>().value(row)),
        DataType::Utf8View => Some(array.as_string_view().value(row)),
        _ => None,
    }
}

fn whole(array: &dyn Array, row: usize) -> Option<Number> {
    Some(match array.data_type() {
        DataType::Int8 => primitive::<Int8Type>(array, row).into(),
        DataType::Int16 => primitive::<Int16Type>(array, row).into(),
        DataType::Int32 => primitive::<Int32Type>(array, row).into(),
        DataType::Int64 => primitive::<Int64Type>(array, row).into(),
        DataType::UInt8 => primitive::<UInt8Type>(array, row).into(),
        DataType::UInt16 => primitive::<UInt16Type>(array, row).into(),
        DataType::UInt32 => primitive::<UInt32Type>(array, row).into(),
        DataType::UInt64 => primitive::<UInt64Type>(array, row).into(),
        _ => return None,
    })
}

fn primitive<T: ArrowPrimitiveType>(array: &dyn Array, row: usize) -> T::Native {
    array.as_primitive::<T>().value(row)
}

fn float(value: f64) -> Json {
    match Number::from_f64(value) {
        Some(number) => Json::Number(number),
        None if value.is_nan() => "NaN".into(),
        None if value > 0.0 => "Infinity".into(),
        None => "-Infinity".into(),
    }
}
