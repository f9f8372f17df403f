//! Linear CKA, centred kernel alignment (Kornblith et al. 2019, arXiv 1905.00414): how alike two sets of states of the same
//! examples are, whatever the rotation and the scale of each.

use super::states::Centred;

/// 1 − ⟨K, K'⟩ / (‖K‖ ‖K'‖) of the centred inner products K and K' of two spaces' states, in [0, 1].
pub(super) fn distance(one: &Centred, other: &Centred) -> f64 {
    let alignment = one.dot(other) / (one.dot(one) * other.dot(other)).sqrt();
    (1.0 - alignment).clamp(0.0, 1.0)
}
