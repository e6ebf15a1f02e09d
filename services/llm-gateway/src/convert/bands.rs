//! How far figures may lie apart, checked; and what came of it.

use contracts::llm as wire;
use rpc::{At, Check};

use crate::cache::bands::{MAX_RELATIVE, Outcome, Tolerance, Tolerances};

/// Most fields named, and longest name in bytes: as many as an observation has values.
const MAX_FIELDS: usize = 256;
const NAME_BYTES: usize = 128;

/// Reads what a request asks for; `usual` is what it leaves open.
pub(super) fn bands(check: &mut Check, bands: Option<wire::Bands>, usual: &Tolerances) -> Tolerances {
    let Some(bands) = bands else { return usual.clone() };
    let at = At::from("bands");
    let others = match bands.tolerance {
        None => usual.others,
        Some(relative) => {
            check.within(at.field("tolerance"), relative, 0.0..=MAX_RELATIVE);
            Tolerance::new(relative, 0.0).unwrap_or_default()
        }
    };
    let mut read = Tolerances { others, max_age: usual.max_age, ..Tolerances::default() };
    let fields = at.field("fields");
    if check.items(fields, bands.fields.len(), 0..=MAX_FIELDS) {
        for (name, asked) in bands.fields {
            named(check, fields.key(&name), &name);
            let tolerance = tolerance(check, fields.key(&name), asked);
            read.fields.insert(name, tolerance);
        }
    }
    let ignored = at.field("ignored");
    if check.items(ignored, bands.ignored.len(), 0..=MAX_FIELDS) {
        for (place, name) in bands.ignored.iter().enumerate() {
            named(check, ignored.item(place), name);
        }
        read.ignored.extend(bands.ignored);
    }
    read.max_age = check.duration(at.field("max_age"), bands.max_age.as_ref()).or(read.max_age);
    read
}

/// Writes what came of looking for an answer about close figures.
pub(super) fn banded(outcome: Outcome) -> wire::Banded {
    match outcome {
        Ok(anchor) => wire::Banded { anchor: anchor.values.into_iter().collect(), ..wire::Banded::default() },
        Err(refusal) => wire::Banded {
            refusal: refusal.to_string(),
            field: refusal.field().to_owned(),
            ..wire::Banded::default()
        },
    }
}

fn tolerance(check: &mut Check, at: At<'_>, asked: wire::Tolerance) -> Tolerance {
    check.within(at.field("relative"), asked.relative, 0.0..=MAX_RELATIVE);
    let is_distance = asked.absolute.is_finite() && asked.absolute >= 0.0;
    check.require(at.field("absolute"), is_distance, "must be a finite number of at least 0");
    Tolerance::new(asked.relative, asked.absolute).unwrap_or_default()
}

fn named(check: &mut Check, at: At<'_>, name: &str) {
    check.text(at, name, 1..=NAME_BYTES);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use contracts::llm as wire;
    use rpc::Check;

    use super::{Tolerance, Tolerances, bands};

    fn read(asked: wire::Bands) -> Result<Tolerances, Vec<String>> {
        let usual = Tolerances {
            others: Tolerance::new(0.1, 0.0).unwrap(),
            max_age: Some(Duration::from_secs(60)),
            ..Tolerances::default()
        };
        let mut check = Check::default();
        let read = bands(&mut check, Some(asked), &usual);
        let faults = |fault: rpc::Fault| fault.violations().iter().map(|wrong| wrong.field.clone()).collect();
        check.end(read).map_err(faults)
    }

    #[test]
    fn what_a_request_leaves_open_is_as_the_settings_have_it() {
        let asked = wire::Bands { ignored: vec!["age".into()], ..wire::Bands::default() };
        let open = read(asked).unwrap();
        assert_eq!(
            (open.others, open.max_age),
            (Tolerance::new(0.1, 0.0).unwrap(), Some(Duration::from_secs(60)))
        );
        assert!(open.ignored.contains("age"));
        let off = read(wire::Bands { tolerance: Some(0.0), ..wire::Bands::default() }).unwrap();
        assert!(off.is_exact(), "0 switches off what the settings switch on");
    }

    #[test]
    fn every_wrong_tolerance_is_named_by_its_path() {
        for wrong in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            let asked = wire::Bands {
                tolerance: Some(wrong),
                fields: [("apr".to_owned(), wire::Tolerance { relative: wrong, absolute: -wrong.abs() })]
                    .into(),
                ignored: vec!["age".into(), String::new()],
                max_age: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
            };
            let expected = [
                "bands.tolerance",
                r#"bands.fields["apr"].relative"#,
                r#"bands.fields["apr"].absolute"#,
                "bands.ignored[1]",
                "bands.max_age",
            ];
            assert_eq!(read(asked).unwrap_err(), expected, "{wrong}");
        }
    }
}
