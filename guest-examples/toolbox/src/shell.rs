//! `sh`: enough of a shell to look around and to write probes and hooks: words with quotes and
//! variables, `;`, `&&`, `||`, pipes, `<`, `>`, `>>`, and the built-ins `cd`, `exit`, `set NAME=…`.
//!
//! Commands run one after the other, also those of a pipe, whose bytes wait in memory. No control
//! flow, no background, no globs.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Cursor, Read, Write};
use std::rc::Rc;

use crate::io::{Io, plain, words};
use crate::{Result, about};

struct Shell {
    variables: Vec<(String, String)>,
    last: i32,
    exit: Option<i32>,
}

pub fn sh(io: &mut Io, args: &[String]) -> Result {
    let mut shell = Shell {
        variables: std::env::vars().collect(),
        last: 0,
        exit: None,
    };
    match args {
        [] => {}
        [flag, script, ..] if flag.starts_with('-') && flag.ends_with('c') => {
            return Ok(shell.script(io, script));
        }
        [path, ..] => {
            let script = std::fs::read_to_string(io.path(path)).map_err(about(path))?;
            return Ok(shell.script(io, &script));
        }
    }
    let mut input = BufReader::with_capacity(1, io.open(None)?);
    let mut line = String::new();
    let is_terminal = std::env::var("TERM").is_ok();
    loop {
        if is_terminal {
            io.print("$ ");
        }
        io.flush();
        line.clear();
        let read = input.read_line(&mut line);
        if read.map_err(|error| words(&error))? == 0 {
            return Ok(shell.last);
        }
        shell.script(io, &line);
        if let Some(code) = shell.exit {
            return Ok(code);
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Operator(&'static str),
}

impl Shell {
    /// Runs lines; the last command's code.
    fn script(&mut self, io: &mut Io, script: &str) -> i32 {
        for line in script.lines() {
            match self.tokens(line) {
                Ok(tokens) => self.list(io, &tokens),
                Err(message) => {
                    io.complain(&format!("sh: {message}"));
                    self.last = 2;
                }
            }
            if let Some(code) = self.exit {
                return code;
            }
        }
        self.last
    }

    fn tokens(&self, line: &str) -> Result<Vec<Token>> {
        let mut tokens = Vec::new();
        let mut word: Option<String> = None;
        let mut letters = line.chars().peekable();
        let mut quote = None;
        while let Some(letter) = letters.next() {
            match (quote, letter) {
                (Some(open), _) if letter == open => quote = None,
                (None, '\'' | '"') => {
                    quote = Some(letter);
                    word.get_or_insert_default();
                }
                (None | Some('"'), '\\') => {
                    word.get_or_insert_default().extend(letters.next());
                }
                (None | Some('"'), '$') => {
                    let name = name(&mut letters);
                    let word = word.get_or_insert_default();
                    match &*name {
                        "" => word.push('$'),
                        // Known when the command runs.
                        "?" => word.push('\u{0}'),
                        name => word.push_str(&self.value(name)),
                    }
                }
                (Some(_), _) => word.get_or_insert_default().push(letter),
                (None, '#') if word.is_none() => break,
                (None, ' ' | '\t' | '\r') => tokens.extend(word.take().map(Token::Word)),
                (None, ';' | '&' | '|' | '<' | '>') => {
                    tokens.extend(word.take().map(Token::Word));
                    let is_double = letters.next_if_eq(&letter).is_some();
                    tokens.push(Token::Operator(match (letter, is_double) {
                        (';', false) => ";",
                        ('&', true) => "&&",
                        ('|', true) => "||",
                        ('|', false) => "|",
                        ('<', false) => "<",
                        ('>', false) => ">",
                        ('>', true) => ">>",
                        _ => return Err(format!("`{letter}` is not understood here")),
                    }));
                }
                (None, _) => word.get_or_insert_default().push(letter),
            }
        }
        if quote.is_some() {
            return Err("a quote is not closed".to_owned());
        }
        tokens.extend(word.map(Token::Word));
        Ok(tokens)
    }

    fn value(&self, name: &str) -> String {
        let known = self.variables.iter().rev();
        let mut known = known.filter(|(known, _)| known == name);
        known
            .next()
            .map(|(_, value)| value.clone())
            .unwrap_or_default()
    }

    /// Pipelines with `;`, `&&` and `||` between them.
    fn list(&mut self, io: &mut Io, tokens: &[Token]) {
        let mut goes_on = true;
        for part in
            tokens.split_inclusive(|token| matches!(token, Token::Operator(";" | "&&" | "||")))
        {
            let (pipeline, after) = match part.split_last() {
                Some((Token::Operator(after @ (";" | "&&" | "||")), pipeline)) => {
                    (pipeline, *after)
                }
                _ => (part, ";"),
            };
            if goes_on && !pipeline.is_empty() {
                self.last = self.pipeline(io, pipeline);
            }
            if self.exit.is_some() {
                return;
            }
            goes_on = match after {
                "&&" => self.last == 0,
                "||" => self.last != 0,
                _ => true,
            };
        }
    }

    fn pipeline(&mut self, io: &mut Io, tokens: &[Token]) -> i32 {
        let commands: Vec<&[Token]> = tokens
            .split(|token| *token == Token::Operator("|"))
            .collect();
        let mut input: Option<Vec<u8>> = None;
        let mut code = 0;
        for (at, command) in commands.iter().enumerate() {
            let is_last = at + 1 == commands.len();
            let output = (!is_last).then(Buffer::default);
            code = match self.command(io, command, (input.take(), output.clone())) {
                Ok(code) => code,
                Err(message) => {
                    io.complain(&format!("sh: {message}"));
                    2
                }
            };
            input = output.map(|output| output.0.take());
        }
        code
    }

    /// One command with its redirections.
    fn command(
        &mut self,
        io: &mut Io,
        tokens: &[Token],
        (input, output): (Option<Vec<u8>>, Option<Buffer>),
    ) -> Result {
        let mut args = Vec::new();
        let mut stdin: Option<Box<dyn Read>> = input.map(|bytes| Box::new(Cursor::new(bytes)) as _);
        let mut stdout: Option<Box<dyn Write>> = output.map(|buffer| Box::new(buffer) as _);
        let mut tokens = tokens.iter();
        while let Some(token) = tokens.next() {
            let operator = match token {
                Token::Word(word) => {
                    args.push(word.replace('\u{0}', &self.last.to_string()));
                    continue;
                }
                Token::Operator(operator) => *operator,
            };
            let Some(Token::Word(path)) = tokens.next() else {
                return Err(format!("`{operator}` to where?"));
            };
            let mut options = std::fs::OpenOptions::new();
            match operator {
                "<" => options.read(true),
                ">" => options.write(true).create(true).truncate(true),
                _ => options.append(true).create(true),
            };
            let file = options.open(io.path(path)).map_err(about(path))?;
            match operator {
                "<" => stdin = Some(Box::new(file)),
                _ => stdout = Some(Box::new(file)),
            }
        }
        if let Some(code) = self.built_in(io, &args)? {
            return Ok(code);
        }
        let stdin = stdin.map(|stdin| std::mem::replace(&mut io.stdin, stdin));
        let stdout = stdout.map(|stdout| std::mem::replace(&mut io.stdout, stdout));
        let code = crate::run(io, &args);
        io.flush();
        io.stdin =
            stdin.unwrap_or_else(|| std::mem::replace(&mut io.stdin, Box::new(std::io::empty())));
        if let Some(stdout) = stdout {
            io.stdout = stdout;
        }
        Ok(code)
    }

    /// What changes the shell itself.
    fn built_in(&mut self, io: &mut Io, args: &[String]) -> Result<Option<i32>> {
        let Some(first) = args.first() else {
            return Ok(Some(self.last));
        };
        match (first.as_str(), args.get(1)) {
            ("exit", code) => {
                let code = code.map_or(Ok(self.last), |code| code.parse());
                let code = code.map_err(|_| "exit with which number?")?;
                self.exit = Some(code);
                Ok(Some(code))
            }
            ("cd", path) => {
                let path = path.map_or("/", String::as_str);
                let directory = io.path(path);
                if !directory.is_dir() {
                    return Err(format!("cd: {path}: not a directory"));
                }
                io.directory = plain(&directory);
                Ok(Some(0))
            }
            ("exec", Some(_)) => {
                let code = crate::run(io, &args[1..]);
                self.exit = Some(code);
                Ok(Some(code))
            }
            ("export", _) => {
                for word in &args[1..] {
                    self.assign(word);
                }
                Ok(Some(0))
            }
            (word, None) if self.assign(word) => Ok(Some(0)),
            _ => Ok(None),
        }
    }

    fn assign(&mut self, word: &str) -> bool {
        let Some((name, value)) = word.split_once('=') else {
            return false;
        };
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        if name.is_empty() || !name.chars().all(is_name) {
            return false;
        }
        self.variables.push((name.to_owned(), value.to_owned()));
        true
    }
}

/// A variable's name: letters, digits, `_`; `{…}` around it; or `?`.
fn name(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> String {
    let has_braces = letters.next_if_eq(&'{').is_some();
    if letters.next_if_eq(&'?').is_some() {
        return "?".to_owned();
    }
    let mut name = String::new();
    while let Some(letter) =
        letters.next_if(|letter| letter.is_ascii_alphanumeric() || *letter == '_')
    {
        name.push(letter);
    }
    if has_braces {
        letters.next_if_eq(&'}');
    }
    name
}

/// The bytes between two commands of a pipe.
#[derive(Clone, Default)]
struct Buffer(Rc<RefCell<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
