//! Figures with their peers, as a table and as JSON.

use std::fmt;

use serde_json::{Value, json};

use crate::cli::bench::stats::quantile;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Better {
    More,
    Less,
}

/// What one side measured, a value for each round.
struct Side {
    name: &'static str,
    values: Vec<f64>,
}

struct Figure {
    name: String,
    unit: &'static str,
    better: Better,
    /// Ours first.
    sides: Vec<Side>,
}

/// Figures of one kind, in the order in which they came.
pub(super) struct Section {
    title: &'static str,
    note: &'static str,
    figures: Vec<Figure>,
}

/// What a value is of.
#[derive(Clone, Copy)]
pub(super) struct What<'a> {
    pub(super) name: &'a str,
    pub(super) unit: &'static str,
    pub(super) better: Better,
}

pub(super) const OURS: &str = "wasmorch";

impl Section {
    pub(super) fn new(title: &'static str, note: &'static str) -> Self {
        Self {
            title,
            note,
            figures: Vec::new(),
        }
    }

    /// Takes a round's value; the first side of a figure is ours.
    pub(super) fn add(&mut self, what: What<'_>, side: &'static str, value: f64) {
        let at = self
            .figures
            .iter()
            .position(|figure| figure.name == what.name);
        let at = at.unwrap_or_else(|| {
            self.figures.push(Figure {
                name: what.name.to_owned(),
                unit: what.unit,
                better: what.better,
                sides: Vec::new(),
            });
            self.figures.len() - 1
        });
        let sides = &mut self.figures[at].sides;
        match sides.iter_mut().find(|known| known.name == side) {
            Some(known) => known.values.push(value),
            None => sides.push(Side {
                name: side,
                values: vec![value],
            }),
        }
    }

    pub(super) fn json(&self) -> Value {
        let figures: Vec<Value> = self.figures.iter().map(Figure::json).collect();
        json!({"title": self.title, "note": self.note, "figures": figures})
    }
}

impl Figure {
    /// The median of the rounds' ratios and the quartile that speaks against us.
    fn ratio(&self, peer: &Side) -> (f64, f64) {
        let ours = self.sides.first().map_or(&[][..], |side| &side.values);
        let ratios = sorted(ours.iter().zip(&peer.values).map(|(a, b)| a / b));
        let worse = match self.better {
            Better::More => 0.25,
            Better::Less => 0.75,
        };
        (quantile(&ratios, 0.5), quantile(&ratios, worse))
    }

    fn json(&self) -> Value {
        let sides = self.sides.iter().enumerate().map(|(index, side)| {
            let mut object =
                json!({"name": side.name, "median": side.median(), "values": side.values});
            if index > 0 {
                let (median, worse) = self.ratio(side);
                object["ratio"] = json!(median);
                object["ratioWorseQuartile"] = json!(worse);
            }
            object
        });
        json!({
            "name": self.name, "unit": self.unit, "lessIsBetter": self.better == Better::Less,
            "sides": sides.collect::<Vec<_>>(),
        })
    }
}

impl Side {
    fn median(&self) -> f64 {
        quantile(&sorted(self.values.iter().copied()), 0.5)
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}: {}", self.title, self.note)?;
        for figure in &self.figures {
            let name = format!("{}, {}", figure.name, figure.unit);
            write!(f, "  {name:<40}")?;
            for (index, side) in figure.sides.iter().enumerate() {
                let (name, value) = (side.name, short(side.median()));
                if index == 0 {
                    write!(f, " {name} {value:>8}")?;
                } else {
                    let (median, worse) = figure.ratio(side);
                    write!(f, "   {name:>13} {value:>8} {median:>6.2}× ({worse:.2}×)")?;
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// About four digits.
fn short(value: f64) -> String {
    match value {
        value if value >= 1000.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_pair_the_rounds_and_quote_the_worse_quartile() {
        let mut section = Section::new("t", "n");
        let what = |better| What {
            name: "x",
            unit: "u",
            better,
        };
        for (ours, peer) in [(1.0, 2.0), (3.0, 2.0), (2.0, 2.0), (4.0, 2.0), (6.0, 2.0)] {
            section.add(what(Better::Less), OURS, ours);
            section.add(what(Better::Less), "peer", peer);
        }
        let side = &section.json()["figures"][0]["sides"][1];
        assert_eq!(
            (&side["ratio"], &side["ratioWorseQuartile"]),
            (&json!(1.5), &json!(2.0))
        );
        section.figures[0].better = Better::More;
        let side = &section.json()["figures"][0]["sides"][1];
        assert_eq!(side["ratioWorseQuartile"], json!(1.0));
        assert!(
            section
                .to_string()
                .contains("peer    2.000   1.50× (1.00×)"),
            "{section}"
        );
    }
}
