//! How two series move together.

/// Returns Pearson's r of two series of one length, -1 to 1; `None` for fewer than 3 pairs or a series that does not vary.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub fn pearson(xs: &[f64], ys: &[f64]) -> Option<f64> {
    if xs.len() != ys.len() || xs.len() < 3 {
        return None;
    }
    let count = xs.len() as f64;
    let (mean_x, mean_y) = (xs.iter().sum::<f64>() / count, ys.iter().sum::<f64>() / count);
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in xs.iter().zip(ys) {
        let (dx, dy) = (x - mean_x, y - mean_y);
        xx += dx * dx;
        yy += dy * dy;
        xy += dx * dy;
    }
    let size = (xx * yy).sqrt();
    (size.is_finite() && size > 0.0).then(|| (xy / size).clamp(-1.0, 1.0))
}

/// Returns Spearman's rho: Pearson's r of the ranks, ties at their mean rank. Insensitive to outliers and to the shape of the relation.
#[must_use]
pub fn spearman(xs: &[f64], ys: &[f64]) -> Option<f64> {
    pearson(&ranks(xs), &ranks(ys))
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
#[expect(clippy::float_cmp, reason = "a tie is bit-for-bit equality")]
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<(usize, f64)> = values.iter().copied().enumerate().collect();
    order.sort_by(|one, two| one.1.total_cmp(&two.1));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    for tie in order.chunk_by(|one, two| one.1 == two.1) {
        let rank = start as f64 + (tie.len() - 1) as f64 / 2.0;
        for (place, _) in tie {
            ranks[*place] = rank;
        }
        start += tie.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::{pearson, spearman};

    #[test]
    fn a_monotone_but_curved_relation_has_full_rank_correlation() {
        let (xs, ys) = ([1.0, 2.0, 3.0, 4.0], [1.0, 10.0, 100.0, 1_000.0]);
        assert!((spearman(&xs, &ys).unwrap() - 1.0).abs() < 1e-12);
        assert!(pearson(&xs, &ys).unwrap() < 0.9);
    }

    #[test]
    fn ties_share_their_mean_rank() {
        // Ranks 0, 1.5, 1.5, 3 against 0, 1, 2, 3: r = 4.5 / sqrt(4.5 * 5).
        let rho = spearman(&[1.0, 2.0, 2.0, 3.0], &[1.0, 2.0, 3.0, 4.0]).unwrap();
        assert!((rho - 4.5 / (4.5_f64 * 5.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn a_constant_or_short_series_correlates_with_nothing() {
        assert_eq!(pearson(&[1.0, 1.0, 1.0], &[1.0, 2.0, 3.0]), None);
        assert_eq!(spearman(&[1.0, 2.0], &[1.0, 2.0]), None);
        assert_eq!(pearson(&[1e308, -1e308, 1e308], &[1.0, 2.0, 3.0]), None);
    }
}
