//! Which of the ready endpoints gets a request: the less loaded of two taken at random.
//!
//! Pure but for the draw, which is passed in. Two random choices are within a hair of the best
//! choice, and unlike the best one they do not send all lanes to the same endpoint at once. An
//! endpoint that has just failed rests; if all of them rest, none is spared, because a guess is
//! better than a refusal.

/// What is known about an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    pub in_flight: usize,
    /// It failed a moment ago.
    pub rests: bool,
}

/// The index of the endpoint to use out of `count`, or `None` if all were tried. `draw(n)` is a
/// random number below `n`.
pub fn choose(
    count: usize,
    is_tried: impl Fn(usize) -> bool,
    load: impl Fn(usize) -> Load,
    mut draw: impl FnMut(usize) -> usize,
) -> Option<usize> {
    if count == 1 {
        return (!is_tried(0)).then_some(0);
    }
    if count == 0 {
        return None;
    }
    let first = draw(count);
    let second = (first + 1 + draw(count - 1)) % count;
    let usable = |index: usize| !is_tried(index) && !load(index).rests;
    match (usable(first), usable(second)) {
        (true, true) if load(second).in_flight < load(first).in_flight => Some(second),
        (true, _) => Some(first),
        (false, true) => Some(second),
        (false, false) => {
            let from_first = || (0..count).map(|step| (first + step) % count);
            let untried = || from_first().find(|index| !is_tried(*index));
            from_first().find(|index| usable(*index)).or_else(untried)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_choice_is_untried_awake_if_any_is_and_the_better_of_two(
            endpoints in prop::collection::vec((0_usize..5, any::<bool>(), any::<bool>()), 0..8),
            draws in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        ) {
            let tried = |index: usize| endpoints[index].2;
            let load = |index: usize| Load { in_flight: endpoints[index].0, rests: endpoints[index].1 };
            let mut draws = [draws.0, draws.1].into_iter();
            let mut drawn = Vec::new();
            let choice = choose(endpoints.len(), tried, load, |below| {
                let value = draws.next().unwrap().index(below);
                drawn.push(value);
                value
            });
            match choice {
                None => prop_assert!((0..endpoints.len()).all(tried)),
                Some(index) => {
                    prop_assert!(!tried(index));
                    let awake = (0..endpoints.len()).any(|it| !tried(it) && !load(it).rests);
                    prop_assert!(!awake || !load(index).rests);
                }
            }
            if let [first, step] = drawn[..] {
                let second = (first + 1 + step) % endpoints.len();
                prop_assert_ne!(first, second);
                let usable = |it: usize| !tried(it) && !load(it).rests;
                if usable(first) && usable(second) {
                    let least = load(first).in_flight.min(load(second).in_flight);
                    prop_assert_eq!(load(choice.unwrap()).in_flight, least);
                }
            }
        }
    }
}
