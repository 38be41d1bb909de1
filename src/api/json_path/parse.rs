//! Reading paths and templates: a cursor over their characters.

use serde_json::Value;

use super::{Comparison, Node, Operand, Path, Step};

/// Reading recurses; nobody nests this deep.
const DEPTH: usize = 32;
/// The longer signs first, so that `<=` is not read as `<`.
const COMPARISONS: [(&str, Comparison); 6] = [
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<=", Comparison::LessOrEqual),
    (">=", Comparison::GreaterOrEqual),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
];

pub(super) fn template(text: &str) -> Result<Vec<Node>, String> {
    // kubectl takes a bare path for an expression.
    let relaxed;
    let text = if text.contains('{') {
        text
    } else {
        let dot = if text.starts_with(['.', '[', '$']) {
            ""
        } else {
            "."
        };
        relaxed = format!("{{{dot}{text}}}");
        &relaxed
    };
    Cursor::new(text).nodes(false)
}

/// A path alone, from its first dot or bracket to its end.
pub(super) fn path(text: &str) -> Result<Path, String> {
    let mut cursor = Cursor::new(text);
    let path = if text.starts_with(['.', '[']) {
        cursor.path()?
    } else {
        Path::default()
    };
    match cursor.rest {
        "" => Ok(path),
        rest => Err(format!("unrecognized character in action: {rest:?}")),
    }
}

struct Cursor<'a> {
    rest: &'a str,
    /// How many filters or ranges are open.
    depth: usize,
}

impl<'a> Cursor<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            rest: text,
            depth: 0,
        }
    }
}

impl Cursor<'_> {
    /// Nodes to the end of the text, or to `{end}`.
    fn nodes(&mut self, in_range: bool) -> Result<Vec<Node>, String> {
        let mut nodes = Vec::new();
        loop {
            let end = self.rest.find('{').unwrap_or(self.rest.len());
            if end > 0 {
                nodes.push(Node::Text(self.rest[..end].to_owned()));
                self.rest = &self.rest[end..];
            }
            if !self.take("{") {
                return if in_range {
                    Err("{range} has no {end}".to_owned())
                } else {
                    Ok(nodes)
                };
            }
            self.space();
            if self.word("end") {
                self.expect("}")?;
                return if in_range {
                    Ok(nodes)
                } else {
                    Err("{end} without {range}".to_owned())
                };
            }
            if self.word("range") {
                let path = self.path()?;
                self.expect("}")?;
                self.deeper("ranges in ranges")?;
                nodes.push(Node::Range(path, self.nodes(true)?));
                self.depth -= 1;
            } else if self.rest.starts_with(['"', '\'']) {
                nodes.push(Node::Text(self.quoted()?));
                self.expect("}")?;
            } else {
                nodes.push(Node::Path(self.path()?));
                self.expect("}")?;
            }
        }
    }

    fn path(&mut self) -> Result<Path, String> {
        self.space();
        let mut steps = Vec::new();
        if self.take("$") {
            steps.push(Step::Root);
        } else {
            self.take("@");
        }
        loop {
            if self.take("..") {
                steps.push(Step::Recursive);
                if self.take("*") {
                    steps.push(Step::Wildcard);
                } else if !self.rest.starts_with('[') {
                    steps.push(Step::Field(self.name()?));
                }
            } else if self.take(".") {
                if self.take("*") {
                    steps.push(Step::Wildcard);
                } else if !self.rest.is_empty() && !self.rest.starts_with(['}', ' ', ')', '[']) {
                    steps.push(Step::Field(self.name()?));
                }
            } else if self.take("[") {
                steps.push(self.brackets()?);
            } else {
                return Ok(Path(steps));
            }
        }
    }

    fn brackets(&mut self) -> Result<Step, String> {
        self.space();
        if self.take("*") {
            self.expect("]")?;
            return Ok(Step::Wildcard);
        }
        if self.take("?") {
            return self.filter();
        }
        let mut members = Vec::new();
        loop {
            self.space();
            members.push(if self.rest.starts_with(['"', '\'']) {
                Step::Field(self.quoted()?)
            } else {
                self.index_or_slice()?
            });
            self.space();
            if !self.take(",") {
                break;
            }
        }
        self.expect("]")?;
        Ok(match (members.pop(), members.is_empty()) {
            (Some(only), true) => only,
            (last, _) => {
                members.extend(last);
                Step::Union(members)
            }
        })
    }

    fn index_or_slice(&mut self) -> Result<Step, String> {
        let from = self.integer()?;
        if !self.take(":") {
            let index = from.ok_or_else(|| self.unexpected("an index"))?;
            return Ok(Step::Index(index));
        }
        let to = self.integer()?;
        let step = if self.take(":") {
            self.integer()?
        } else {
            None
        };
        let step = usize::try_from(step.unwrap_or(1))
            .ok()
            .filter(|step| *step > 0);
        Ok(Step::Slice(
            from,
            to,
            step.ok_or("a slice's step is positive")?,
        ))
    }

    fn filter(&mut self) -> Result<Step, String> {
        self.expect("(")?;
        self.deeper("filters in filters")?;
        let left = self.path()?;
        self.space();
        let comparison = COMPARISONS
            .into_iter()
            .find_map(|(sign, comparison)| self.take(sign).then_some(comparison));
        let right = match comparison {
            Some(comparison) => Some((comparison, self.operand()?)),
            None => None,
        };
        self.expect(")")?;
        self.expect("]")?;
        self.depth -= 1;
        Ok(Step::Filter(left, right))
    }

    fn deeper(&mut self, what: &str) -> Result<(), String> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(format!("{what} end at a depth of {DEPTH}"));
        }
        Ok(())
    }

    fn operand(&mut self) -> Result<Operand, String> {
        self.space();
        if self.rest.starts_with(['"', '\'']) {
            return Ok(Operand::Literal(Value::String(self.quoted()?)));
        }
        if self.rest.starts_with(['@', '$', '.']) {
            return Ok(Operand::Path(self.path()?));
        }
        let end = self
            .rest
            .find(|c: char| c == ')' || c.is_whitespace())
            .unwrap_or(self.rest.len());
        let literal = serde_json::from_str(&self.rest[..end])
            .map_err(|_| self.unexpected("a value to compare with"))?;
        self.rest = &self.rest[end..];
        Ok(Operand::Literal(literal))
    }

    /// A field's name up to the next sign of the language; `\` keeps a sign in the name.
    fn name(&mut self) -> Result<String, String> {
        let mut name = String::new();
        let mut characters = self.rest.char_indices();
        let end = loop {
            match characters.next() {
                Some((_, '\\')) => name.extend(characters.next().map(|(_, c)| c)),
                Some((at, c)) if "{}[]().=!<>, ".contains(c) => break at,
                Some((_, c)) => name.push(c),
                None => break self.rest.len(),
            }
        };
        if name.is_empty() {
            return Err(self.unexpected("a field"));
        }
        self.rest = &self.rest[end..];
        Ok(name)
    }

    fn quoted(&mut self) -> Result<String, String> {
        let mut characters = self.rest.char_indices();
        let quote = characters.next().map(|(_, c)| c);
        let mut text = String::new();
        while let Some((at, c)) = characters.next() {
            match c {
                '\\' => match characters.next().map(|(_, c)| c) {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some('r') => text.push('\r'),
                    Some(c) => text.push(c),
                    None => break,
                },
                c if Some(c) == quote => {
                    self.rest = &self.rest[at + c.len_utf8()..];
                    return Ok(text);
                }
                c => text.push(c),
            }
        }
        Err(format!("no closing quote: {}", self.rest))
    }

    fn integer(&mut self) -> Result<Option<i64>, String> {
        let end = self
            .rest
            .find(|c: char| !c.is_ascii_digit() && c != '-')
            .unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        if digits.is_empty() {
            return Ok(None);
        }
        let value = digits.parse().map_err(|_| self.unexpected("an index"))?;
        self.rest = rest;
        Ok(Some(value))
    }

    fn word(&mut self, word: &str) -> bool {
        let follows = self.rest.strip_prefix(word).unwrap_or_default();
        follows.starts_with([' ', '}', '\t']) && self.take(word)
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, sign: &str) -> bool {
        match self.rest.strip_prefix(sign) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, sign: &str) -> Result<(), String> {
        self.space();
        if self.take(sign) {
            Ok(())
        } else {
            Err(self.unexpected(&format!("`{sign}`")))
        }
    }

    fn unexpected(&self, wanted: &str) -> String {
        match self.rest {
            "" => format!("{wanted} is missing at the end"),
            rest => format!("{wanted} is missing before `{rest}`"),
        }
    }
}
