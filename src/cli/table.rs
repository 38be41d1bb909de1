//! Printing a server's `Table`: kubectl's columns, two or three spaces apart, no borders.
//!
//! The columns, their order and their words are the server's; here are widths and nothing else. A
//! watch prints more rows later, under the widths of the first ones.

use std::fmt::Write as _;

use serde_json::Value;
use unicode_width::UnicodeWidthStr as _;

use super::style;

const GAP: usize = 3;

/// What to show of a table.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Layout {
    /// Also the columns of lower priority.
    pub(super) wide: bool,
    /// A first column with the namespace.
    pub(super) namespaces: bool,
    /// A last column with the labels.
    pub(super) labels: bool,
    pub(super) headers: bool,
}

/// Rows of text under headings.
#[derive(Debug, Default)]
pub(super) struct Grid {
    headings: Vec<String>,
    /// Which of the server's columns are shown.
    shown: Vec<usize>,
    rows: Vec<Vec<String>>,
    widths: Vec<usize>,
}

impl Grid {
    pub(super) fn new(headings: &[&str]) -> Self {
        Self {
            headings: headings
                .iter()
                .map(|heading| (*heading).to_owned())
                .collect(),
            ..Self::default()
        }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Takes the rows of a server's table. `prefix` goes before each name (`pod/`).
    pub(super) fn add(&mut self, table: &Value, layout: Layout, prefix: &str) {
        let columns = list(table, "columnDefinitions");
        // Only the first table of a watch says what its columns are.
        if !columns.is_empty() {
            let is_shown = |index: &usize| {
                layout.wide || columns[*index]["priority"].as_i64().unwrap_or(0) == 0
            };
            self.shown = (0..columns.len()).filter(is_shown).collect();
            self.headings = headings(columns, &self.shown, layout);
        }
        for row in list(table, "rows") {
            let cells = list(row, "cells");
            let mut texts = Vec::with_capacity(self.shown.len() + 2);
            if layout.namespaces {
                texts.push(
                    meta(row, "namespace")
                        .as_str()
                        .unwrap_or_default()
                        .to_owned(),
                );
            }
            for index in &self.shown {
                let text = cells.get(*index).map_or_else(String::new, cell);
                texts.push(if *index == 0 {
                    format!("{prefix}{text}")
                } else {
                    text
                });
            }
            if layout.labels {
                texts.push(labels(meta(row, "labels")));
            }
            self.rows.push(texts);
        }
    }

    /// The text of all rows so far, and forgets them; widths only ever grow.
    pub(super) fn render(&mut self, headers: bool) -> String {
        let rows = std::mem::take(&mut self.rows);
        let headings = headers.then(|| std::mem::take(&mut self.headings));
        for row in headings.iter().chain(&rows) {
            for (index, cell) in row.iter().enumerate() {
                let width = cell.width();
                match self.widths.get_mut(index) {
                    Some(known) => *known = width.max(*known),
                    None => self.widths.push(width),
                }
            }
        }
        let mut text = String::new();
        for row in headings.iter().chain(&rows) {
            self.line(row, &mut text);
        }
        text
    }

    fn line(&self, row: &[String], text: &mut String) {
        for (index, cell) in row.iter().enumerate() {
            match style::of_status(cell) {
                Some(style) => {
                    let _ = write!(text, "{}{cell}{}", style.render(), style.render_reset());
                }
                None => text.push_str(cell),
            }
            if index + 1 < row.len() {
                let width = self.widths.get(index).copied().unwrap_or(0) + GAP;
                text.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.width())));
            }
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    }
}

fn headings(columns: &[Value], shown: &[usize], layout: Layout) -> Vec<String> {
    let mut headings = Vec::new();
    if layout.namespaces {
        headings.push("NAMESPACE".to_owned());
    }
    let name = |index: &usize| {
        columns[*index]["name"]
            .as_str()
            .unwrap_or_default()
            .to_uppercase()
    };
    headings.extend(shown.iter().map(name));
    if layout.labels {
        headings.push("LABELS".to_owned());
    }
    headings
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<none>".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// `a=1,b=2`, or `<none>`.
pub(super) fn labels(labels: &Value) -> String {
    let labels = labels.as_object().into_iter().flatten();
    let pairs: Vec<String> = labels
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    if pairs.is_empty() {
        "<none>".to_owned()
    } else {
        pairs.join(",")
    }
}

fn meta<'a>(row: &'a Value, field: &str) -> &'a Value {
    &row["object"]["metadata"][field]
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table() -> Value {
        json!({
            "kind": "Table",
            "columnDefinitions": [
                {"name": "Name", "type": "string", "priority": 0},
                {"name": "Ready", "type": "string", "priority": 0},
                {"name": "Node", "type": "string", "priority": 1},
                {"name": "Restarts", "type": "integer", "priority": 0},
            ],
            "rows": [
                {"cells": ["a-long-name", "1/1", "dev-1", 0],
                 "object": {"metadata": {"namespace": "shop", "labels": {"app": "x", "z": "1"}}}},
                {"cells": ["b", "0/1", null, 12],
                 "object": {"metadata": {"namespace": "default"}}},
            ]
        })
    }

    fn render(layout: Layout, prefix: &str) -> String {
        let mut grid = Grid::default();
        grid.add(&table(), layout, prefix);
        let styled = grid.render(layout.headers);
        anstream::adapter::strip_str(&styled).to_string()
    }

    #[test]
    fn columns_line_up() {
        let plain = Layout {
            headers: true,
            ..Layout::default()
        };
        insta::assert_snapshot!(render(plain, ""), @r"
        NAME          READY   RESTARTS
        a-long-name   1/1     0
        b             0/1     12
        ");
        let all = Layout {
            wide: true,
            namespaces: true,
            labels: true,
            headers: true,
        };
        insta::assert_snapshot!(render(all, "pod/"), @r"
        NAMESPACE   NAME              READY   NODE     RESTARTS   LABELS
        shop        pod/a-long-name   1/1     dev-1    0          app=x,z=1
        default     pod/b             0/1     <none>   12         <none>
        ");
        insta::assert_snapshot!(render(Layout::default(), ""), @r"
        a-long-name   1/1   0
        b             0/1   12
        ");
    }

    #[test]
    fn a_watch_names_its_columns_once() {
        let layout = Layout {
            headers: true,
            ..Layout::default()
        };
        let mut grid = Grid::default();
        grid.add(&table(), layout, "");
        grid.render(true);
        let later = json!({"kind": "Table", "columnDefinitions": null,
            "rows": [{"cells": ["b", "1/1", "dev-1", 12]}]});
        grid.add(&later, layout, "");
        assert_eq!(grid.render(false), "b             1/1     12\n");
    }
}
