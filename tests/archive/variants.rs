//! The variants beside what mmdebstrap means by them.

use sandbox_core::resolve::Variant;

use crate::{
    apt::{Apt, Set},
    lab::Lab,
    resolve::of_variant,
};

const VARIANTS: [Variant; 6] = [
    Variant::Essential,
    Variant::Apt,
    Variant::Minbase,
    Variant::Buildd,
    Variant::Important,
    Variant::Standard,
];

pub fn the_variants_of_trixie_are_mmdebstraps(lab: &Lab) {
    compare(lab, "trixie", &[]);
}

/// The image of bookworm asks for `usr-is-merged` and excludes `usrmerge`, as debootstrap does: the tree is
/// merged from the start. Left to itself apt takes the converter, and perl with it.
pub fn the_variants_of_bookworm_are_mmdebstraps(lab: &Lab) {
    compare(lab, "bookworm", &["usr-is-merged", "usrmerge-"]);
}

/// Has apt choose in mmdebstrap's two steps: the essential packages into nothing, then the rest onto them.
fn compare(lab: &Lab, suite: &str, of_image: &[&str]) {
    let apt = Apt::of(lab, suite);
    let of_image = of_image.iter().map(|&wish| wish.to_owned());
    let mut sizes = Vec::new();
    for variant in VARIANTS {
        let mut first = of_variant(suite, Variant::Essential);
        first.extend(of_image.clone());
        let essential = apt.simulate(false, &first).expect("the essential packages can be had");
        let all = apt.simulate_onto(&essential, &of_variant(suite, variant)).expect("the variant can be had");
        let ours = lab.sandbox(&["resolve", suite, "--variant", &variant.to_string()]);
        let ours: Set = ours.ok().lines().map(str::to_owned).collect();
        let only = |a: &Set, b: &Set| a.difference(b).cloned().collect::<Vec<_>>();
        let (theirs, own) = (only(&all, &ours), only(&ours, &all));
        assert!(all == ours, "{suite} {variant}: only apt: {theirs:?}; only we: {own:?}");
        sizes.push(ours.len());
    }
    // that the sets grow shows that the patterns select something
    let [essential, apt, minbase, buildd, important, standard] = sizes[..] else { panic!("six variants") };
    assert!(essential < apt && apt < minbase && minbase < important && important < standard, "{sizes:?}");
    assert!(buildd > minbase, "{sizes:?}");
}
