//! Transforms: values made from what is there, by Firestore's rules (`DocumentTransform.FieldTransform`).

use std::cmp::Ordering;

use crate::document::Value;

/// 2^63, the first double above every integer.
const ABOVE_INTEGERS: f64 = 9_223_372_036_854_775_808.0;

/// A number of one of Firestore's two types.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A 64-bit integer.
    Integer(i64),
    /// A double.
    Double(f64),
}

/// Makes a field's value from the one before.
#[derive(Clone, Debug, PartialEq)]
pub enum Transform {
    /// Adds; what is no number becomes the operand. Integers stop at their limits; with a double both are doubles.
    Increment(Number),
    /// The larger; of equal ones what is there, and of no number the operand.
    Maximum(Number),
    /// The smaller; else as [`Transform::Maximum`].
    Minimum(Number),
    /// Appends those that are missing, in order; what is no list is an empty one.
    Union(Vec<Value>),
    /// Removes all that equal one of these; what is no list is an empty one.
    Subtract(Vec<Value>),
}

impl Number {
    /// Returns the number that `value` is.
    #[must_use]
    pub fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Integer(integer) => Some(Self::Integer(*integer)),
            Value::Double(double) => Some(Self::Double(*double)),
            _ => None,
        }
    }

    /// Returns the number as a value.
    #[must_use]
    pub fn value(self) -> Value {
        match self {
            Self::Integer(integer) => Value::Integer(integer),
            Self::Double(double) => Value::Double(double),
        }
    }

    fn double(self) -> f64 {
        match self {
            Self::Integer(integer) => integer as f64,
            Self::Double(double) => double,
        }
    }

    fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::Integer(one), Self::Integer(two)) => Self::Integer(one.saturating_add(two)),
            (one, two) => Self::Double(one.double() + two.double()),
        }
    }

    /// Compares by value whatever the types, exactly; NaN is below all and equals itself.
    fn compare(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Integer(one), Self::Integer(two)) => one.cmp(&two),
            (Self::Double(one), Self::Double(two)) => {
                one.partial_cmp(&two).unwrap_or_else(|| two.is_nan().cmp(&one.is_nan()))
            }
            (Self::Integer(integer), Self::Double(double)) => compare(integer, double),
            (Self::Double(double), Self::Integer(integer)) => compare(integer, double).reverse(),
        }
    }
}

impl Transform {
    /// Returns the value after it, given the one before.
    #[must_use]
    pub fn apply(&self, before: Option<&Value>) -> Value {
        match self {
            Self::Increment(by) => number(before).map_or(*by, |before| before.plus(*by)).value(),
            Self::Maximum(other) => extreme(before, *other, Ordering::Greater),
            Self::Minimum(other) => extreme(before, *other, Ordering::Less),
            Self::Union(values) => {
                let mut list = list(before).to_vec();
                for value in values {
                    if !holds(&list, value) {
                        list.push(value.clone());
                    }
                }
                Value::Array(list)
            }
            Self::Subtract(values) => {
                Value::Array(list(before).iter().filter(|value| !holds(values, value)).cloned().collect())
            }
        }
    }

    /// Returns whether applying it twice in a row is applying it once, whatever else was done to the list in between.
    #[must_use]
    pub(super) fn is_repeatable(&self) -> bool {
        match self {
            Self::Maximum(_) | Self::Minimum(_) | Self::Subtract(_) => true,
            Self::Increment(_) | Self::Union(_) => false,
        }
    }

    /// Returns whether its result is a number; else it is a list.
    pub(super) fn is_of_numbers(&self) -> bool {
        matches!(self, Self::Increment(_) | Self::Maximum(_) | Self::Minimum(_))
    }

    /// Returns the one transform that does what this one and then `later` do, if there is one.
    ///
    /// Increments are summed if they are of one type and sign: each of them could stop at a limit that their sum does not meet. The sum
    /// of doubles may differ in its last bits from adding one by one, as addition of doubles is not associative.
    fn join(&self, later: &Self) -> Option<Self> {
        match (self, later) {
            (Self::Increment(one), Self::Increment(two)) => sum(*one, *two).map(Self::Increment),
            (Self::Maximum(one), Self::Maximum(two)) => {
                Some(Self::Maximum(if two.compare(*one).is_gt() { *two } else { *one }))
            }
            (Self::Minimum(one), Self::Minimum(two)) => {
                Some(Self::Minimum(if two.compare(*one).is_lt() { *two } else { *one }))
            }
            (Self::Union(one), Self::Union(two)) => Some(Self::Union(joined(one, two))),
            (Self::Subtract(one), Self::Subtract(two)) => Some(Self::Subtract(joined(one, two))),
            // Whatever was appended is removed again.
            (Self::Union(one), Self::Subtract(two)) => {
                one.iter().all(|value| holds(two, value)).then(|| later.clone())
            }
            _ => None,
        }
    }
}

/// Returns the value after all of `list` in order.
pub(super) fn apply_all(list: &[Transform], before: Option<&Value>) -> Value {
    let mut list = list.iter();
    let first = list.next().map_or(Value::Null, |first| first.apply(before));
    list.fold(first, |value, transform| transform.apply(Some(&value)))
}

/// Adds `later` behind `list`, joining where one does for two.
pub(super) fn push(list: &mut Vec<Transform>, later: Transform) {
    match list.last_mut() {
        Some(last) => match last.join(&later) {
            Some(both) => *last = both,
            None => list.push(later),
        },
        None => list.push(later),
    }
}

/// Returns whether two values are equal by Firestore's rules: numbers by value, NaN to itself.
fn equal(one: &Value, two: &Value) -> bool {
    match (one, two) {
        (Value::Array(one), Value::Array(two)) => {
            one.len() == two.len() && one.iter().zip(two).all(|(one, two)| equal(one, two))
        }
        (Value::Map(one), Value::Map(two)) => {
            let pairs = one.iter().zip(two);
            one.len() == two.len()
                && pairs.into_iter().all(|(one, two)| one.0 == two.0 && equal(one.1, two.1))
        }
        (one, two) => match (Number::of(one), Number::of(two)) {
            (Some(one), Some(two)) => one.compare(two).is_eq(),
            _ => one == two,
        },
    }
}

fn holds(list: &[Value], value: &Value) -> bool {
    list.iter().any(|other| equal(other, value))
}

fn joined(one: &[Value], two: &[Value]) -> Vec<Value> {
    let mut all = one.to_vec();
    all.extend(two.iter().filter(|value| !holds(one, value)).cloned());
    all
}

fn number(before: Option<&Value>) -> Option<Number> {
    before.and_then(Number::of)
}

fn list(before: Option<&Value>) -> &[Value] {
    match before {
        Some(Value::Array(values)) => values,
        _ => &[],
    }
}

fn extreme(before: Option<&Value>, other: Number, wanted: Ordering) -> Value {
    match number(before) {
        Some(Number::Double(before)) if before.is_nan() => Value::Double(before),
        Some(before) if other.compare(before) != wanted => before.value(),
        _ => other.value(),
    }
}

fn sum(one: Number, two: Number) -> Option<Number> {
    match (one, two) {
        (Number::Integer(one), Number::Integer(two)) => {
            let together = one == 0 || two == 0 || (one > 0) == (two > 0);
            one.checked_add(two).filter(|_| together).map(Number::Integer)
        }
        (Number::Double(one), Number::Double(two)) => {
            let together = one.is_sign_positive() == two.is_sign_positive();
            Some(one + two).filter(|sum| together && sum.is_finite()).map(Number::Double)
        }
        _ => None,
    }
}

fn compare(integer: i64, double: f64) -> Ordering {
    if double.is_nan() || double < -ABOVE_INTEGERS {
        return Ordering::Greater;
    }
    if double >= ABOVE_INTEGERS {
        return Ordering::Less;
    }
    let whole = double.trunc();
    // Within the range of integers by the lines above.
    integer
        .cmp(&(whole as i64))
        .then_with(|| 0.0_f64.partial_cmp(&(double - whole)).unwrap_or(Ordering::Equal))
}

#[cfg(test)]
mod tests {
    use super::{Number, Transform, push};
    use crate::document::{Fields, Value};

    const INT: fn(i64) -> Number = Number::Integer;
    const DOUBLE: fn(f64) -> Number = Number::Double;

    fn folded(list: impl IntoIterator<Item = Transform>) -> Vec<Transform> {
        let mut all = Vec::new();
        list.into_iter().for_each(|transform| push(&mut all, transform));
        all
    }

    #[test]
    fn an_increment_saturates_mixes_types_and_starts_from_its_operand() {
        let add = |before: Value, by| Transform::Increment(by).apply(Some(&before));
        assert_eq!(add(Value::Integer(i64::MAX - 1), INT(5)), Value::Integer(i64::MAX));
        assert_eq!(add(Value::Integer(i64::MIN), INT(-1)), Value::Integer(i64::MIN));
        assert_eq!(add(Value::Integer(1), DOUBLE(0.5)), Value::Double(1.5));
        assert_eq!(add(Value::Double(0.5), INT(1)), Value::Double(1.5));
        assert_eq!(add(Value::Text("1".to_owned()), INT(2)), Value::Integer(2));
        assert_eq!(Transform::Increment(DOUBLE(2.0)).apply(None), Value::Double(2.0));
    }

    #[test]
    fn an_extreme_takes_the_type_of_the_larger_and_keeps_what_is_there_of_equal_ones() {
        let max = |before: Value, other| Transform::Maximum(other).apply(Some(&before));
        let min = |before: Value, other| Transform::Minimum(other).apply(Some(&before));
        assert_eq!(max(Value::Integer(3), DOUBLE(3.5)), Value::Double(3.5));
        assert_eq!(max(Value::Integer(3), DOUBLE(3.0)), Value::Integer(3));
        assert_eq!(min(Value::Double(0.0), INT(0)), Value::Double(0.0));
        assert_eq!(min(Value::Null, INT(7)), Value::Integer(7));
        // Two neighbours above 2^53, which are one as doubles.
        assert_eq!(
            max(Value::Double(9_007_199_254_740_992.0), INT(9_007_199_254_740_993)),
            Value::Integer(9_007_199_254_740_993)
        );
        assert_eq!(max(Value::Integer(i64::MAX), DOUBLE(9.3e18)), Value::Double(9.3e18));
        assert_eq!(min(Value::Integer(i64::MIN), DOUBLE(-9.3e18)), Value::Double(-9.3e18));
        assert!(matches!(max(Value::Double(f64::NAN), INT(1)), Value::Double(nan) if nan.is_nan()));
    }

    #[test]
    fn lists_compare_numbers_by_value_and_keep_their_order() {
        let map = |number| Value::Map(Fields::from([("n".to_owned(), number)]));
        let before = Value::Array(vec![Value::Integer(3), map(Value::Integer(1)), Value::Integer(3)]);
        let union =
            Transform::Union(vec![Value::Double(3.0), map(Value::Double(1.0)), Value::Null, Value::Null]);
        let Value::Array(after) = union.apply(Some(&before)) else { panic!("a list") };
        assert_eq!(after.len(), 4);
        assert_eq!(after[3], Value::Null);
        let rest = Transform::Subtract(vec![Value::Double(3.0)]).apply(Some(&before));
        assert_eq!(rest, Value::Array(vec![map(Value::Integer(1))]));
        assert_eq!(Transform::Subtract(vec![]).apply(Some(&Value::Integer(1))), Value::Array(vec![]));
    }

    #[test]
    fn what_one_does_for_two_is_one_and_the_rest_stands_in_order() {
        let add = |by| Transform::Increment(by);
        assert_eq!(folded([add(INT(1)), add(INT(2)), add(INT(0))]), [add(INT(3))]);
        assert_eq!(folded([add(DOUBLE(0.5)), add(DOUBLE(0.25))]), [add(DOUBLE(0.75))]);
        for apart in
            [[INT(1), INT(-1)], [INT(i64::MAX), INT(1)], [INT(1), DOUBLE(1.0)], [DOUBLE(1.0), DOUBLE(-1.0)]]
        {
            assert_eq!(folded(apart.map(add)).len(), 2, "{apart:?}");
        }
        let highest = [INT(3), DOUBLE(3.0), INT(2)].map(Transform::Maximum);
        assert_eq!(folded(highest), [Transform::Maximum(INT(3))]);
        let (one, two) = (Value::Integer(1), Value::Integer(2));
        let union =
            |values: &[&Value]| Transform::Union(values.iter().map(|value| (*value).clone()).collect());
        let subtract =
            |values: &[&Value]| Transform::Subtract(values.iter().map(|value| (*value).clone()).collect());
        assert_eq!(folded([union(&[&one]), union(&[&two, &one])]), [union(&[&one, &two])]);
        assert_eq!(folded([union(&[&one]), subtract(&[&two, &one])]), [subtract(&[&two, &one])]);
        assert_eq!(folded([union(&[&one, &two]), subtract(&[&one])]).len(), 2);
        assert_eq!(folded([subtract(&[&one]), union(&[&one])]).len(), 2);
    }
}
