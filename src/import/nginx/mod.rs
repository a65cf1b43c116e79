//! Reads the syntax of nginx's configuration: directives, blocks, quotes, escapes and comments. This file does not know
//! what directives mean, and does not follow `include`.

pub(super) mod pattern;
pub(super) mod place;
pub(super) mod search;
pub(super) mod site;

use std::iter::Peekable;
use std::str::Chars;

use crate::config::limits;
use crate::config::text::Position;
use crate::types::excerpt;

/// One directive with the directives in its block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Directive {
    pub(super) name: String,
    pub(super) args: Vec<String>,
    pub(super) at: Position,
    /// `None`: the directive ends in a semicolon.
    pub(super) block: Option<Vec<Directive>>,
}

impl Directive {
    /// The argument at `index`, or an empty text.
    pub(super) fn arg(&self, index: usize) -> &str {
        self.args.get(index).map_or("", String::as_str)
    }

    /// The directives in its block.
    pub(super) fn children(&self) -> &[Directive] {
        self.block.as_deref().unwrap_or_default()
    }
}

/// Why a text cannot be read, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    pub(super) at: Position,
    pub(super) message: String,
}

/// Reads a whole file.
pub(super) fn parse(text: &str) -> Result<Vec<Directive>, Flaw> {
    let mut lexer = Lexer { rest: text.strip_prefix('\u{feff}').unwrap_or(text).chars().peekable(), at: (1, 1) };
    // `open` has the directives whose blocks are open, each with the directives before it in its own block. `block` has
    // the directives of the innermost open block.
    let mut open: Vec<(Directive, Vec<Directive>)> = Vec::new();
    let mut block: Vec<Directive> = Vec::new();
    let mut words: Vec<(String, Position)> = Vec::new();
    loop {
        let (token, at) = lexer.next()?;
        match token {
            Token::Word(word) => words.push((word, at)),
            Token::Semicolon => block.push(
                directive(&mut words)
                    .ok_or_else(|| flaw(at, "`;` has no directive before it: write one, or remove the `;`"))?,
            ),
            Token::Open => {
                let head = directive(&mut words)
                    .ok_or_else(|| flaw(at, "`{` opens a block without a name: write its directive before it"))?;
                if head.name.ends_with("_by_lua_block") {
                    lexer.skip_lua(at)?;
                    block.push(Directive { block: Some(Vec::new()), ..head });
                } else if open.len() >= limits::IMPORT_DEPTH {
                    let most = limits::IMPORT_DEPTH;
                    return Err(flaw(
                        at,
                        &format!("blocks are nested deeper than {most} levels: look for a block that is not closed"),
                    ));
                } else {
                    open.push((head, std::mem::take(&mut block)));
                }
            }
            Token::Close => {
                if let Some((word, at)) = words.first() {
                    return Err(flaw(
                        *at,
                        &format!("`{}` does not end in `;`: write `;` after its arguments", excerpt(word)),
                    ));
                }
                let Some((head, outer)) = open.pop() else {
                    return Err(flaw(at, "`}` closes no block: remove it"));
                };
                let inner = std::mem::replace(&mut block, outer);
                block.push(Directive { block: Some(inner), ..head });
            }
            Token::End => {
                if let Some((word, at)) = words.first() {
                    return Err(flaw(
                        *at,
                        &format!("`{}` does not end in `;`: write `;` after its arguments", excerpt(word)),
                    ));
                }
                return match open.pop() {
                    Some((head, _)) => {
                        let name = excerpt(&head.name);
                        Err(flaw(head.at, &format!("the block of `{name}` is not closed: write `}}` at its end")))
                    }
                    None => Ok(block),
                };
            }
        }
    }
}

fn directive(words: &mut Vec<(String, Position)>) -> Option<Directive> {
    let mut words = words.drain(..);
    let (name, at) = words.next()?;
    Some(Directive { name, args: words.map(|(word, _)| word).collect(), at, block: None })
}

fn flaw(at: Position, message: &str) -> Flaw {
    Flaw { at, message: message.to_owned() }
}

enum Token {
    Word(String),
    Semicolon,
    Open,
    Close,
    End,
}

struct Lexer<'t> {
    rest: Peekable<Chars<'t>>,
    at: Position,
}

impl Lexer<'_> {
    fn next(&mut self) -> Result<(Token, Position), Flaw> {
        while let Some(&sign) = self.rest.peek() {
            match sign {
                ' ' | '\t' | '\r' | '\n' => {
                    self.take();
                }
                '#' => while self.take().is_some_and(|sign| sign != '\n') {},
                _ => break,
            }
        }
        let at = self.at;
        let Some(&sign) = self.rest.peek() else { return Ok((Token::End, at)) };
        let token = match sign {
            ';' => Token::Semicolon,
            '{' => Token::Open,
            '}' => Token::Close,
            '"' | '\'' => return self.quoted(at).map(|word| (Token::Word(word), at)),
            _ => return Ok((Token::Word(self.bare()), at)),
        };
        self.take();
        Ok((token, at))
    }

    fn take(&mut self) -> Option<char> {
        let sign = self.rest.next()?;
        self.at = if sign == '\n' { (self.at.0 + 1, 1) } else { (self.at.0, self.at.1 + 1) };
        Some(sign)
    }

    /// Reads a word in quotes. The closing quote must be followed by a character that ends a word.
    fn quoted(&mut self, at: Position) -> Result<String, Flaw> {
        let quote = self.take();
        let mut word = String::new();
        loop {
            match self.take() {
                None => return Err(flaw(at, "a quote is not closed: write the same quote at its end")),
                sign if sign == quote => break,
                Some('\\') => self.escape(&mut word),
                Some(sign) => word.push(sign),
            }
        }
        match self.rest.peek() {
            None | Some(' ' | '\t' | '\r' | '\n' | ';' | '{' | ')') => Ok(word),
            Some(_) => Err(flaw(self.at, "text follows directly after a closing quote: write a space between them")),
        }
    }

    /// Reads a word without quotes. The brace of `${name}` does not open a block.
    fn bare(&mut self) -> String {
        let mut word = String::new();
        let mut variable = false;
        while let Some(&sign) = self.rest.peek() {
            if matches!(sign, ' ' | '\t' | '\r' | '\n' | ';') || sign == '{' && !variable {
                break;
            }
            variable = sign == '$';
            self.take();
            if sign == '\\' { self.escape(&mut word) } else { word.push(sign) }
        }
        word
    }

    /// Reads the character after a backslash. The backslash stays if it escapes nothing, as in regular expressions.
    fn escape(&mut self, word: &mut String) {
        match self.take() {
            Some(sign @ ('"' | '\'' | '\\')) => word.push(sign),
            Some('t') => word.push('\t'),
            Some('r') => word.push('\r'),
            Some('n') => word.push('\n'),
            Some(sign) => word.extend(['\\', sign]),
            None => word.push('\\'),
        }
    }

    /// Skips the code of a `*_by_lua_block` up to its closing brace. Braces in Lua strings and comments do not count.
    fn skip_lua(&mut self, at: Position) -> Result<(), Flaw> {
        let mut depth = 1_usize;
        while let Some(sign) = self.take() {
            match sign {
                '{' => depth += 1,
                '}' => depth -= 1,
                '"' | '\'' => self.skip_lua_string(sign),
                '[' => {
                    self.skip_long_bracket();
                }
                '-' if self.rest.peek() == Some(&'-') => {
                    self.take();
                    let long = self.rest.peek() == Some(&'[') && {
                        self.take();
                        self.skip_long_bracket()
                    };
                    while !long && self.rest.peek().is_some_and(|sign| *sign != '\n') {
                        self.take();
                    }
                }
                _ => {}
            }
            if depth == 0 {
                return Ok(());
            }
        }
        Err(flaw(at, "a block of Lua is not closed: write `}` at its end"))
    }

    fn skip_lua_string(&mut self, quote: char) {
        while let Some(sign) = self.take() {
            match sign {
                '\\' => {
                    self.take();
                }
                '\n' => return,
                _ if sign == quote => return,
                _ => {}
            }
        }
    }

    /// After a `[`, skips the rest of `[[ ... ]]` or `[=[ ... ]=]`. False if the `[` does not start such a text.
    fn skip_long_bracket(&mut self) -> bool {
        let mut level = 0;
        while self.rest.peek() == Some(&'=') {
            self.take();
            level += 1;
        }
        if self.rest.peek() != Some(&'[') {
            return false;
        }
        self.take();
        // The number of `=` after the last `]`. `None`: another character follows it.
        let mut closing: Option<usize> = None;
        while let Some(sign) = self.take() {
            closing = match (sign, closing) {
                (']', Some(equals)) if equals == level => return true,
                (']', _) => Some(0),
                ('=', Some(equals)) => Some(equals + 1),
                _ => None,
            };
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `name(arg,arg){...}` and so on.
    fn shape(block: &[Directive]) -> String {
        let one = |directive: &Directive| {
            let block = directive.block.as_ref().map(|block| format!("{{{}}}", shape(block))).unwrap_or_default();
            format!("{}({}){block}", directive.name, directive.args.join("|"))
        };
        block.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    fn read(text: &str) -> String {
        parse(text).map(|block| shape(&block)).unwrap_or_else(|flaw| format!("{:?} {}", flaw.at, flaw.message))
    }

    #[test]
    fn directives_and_blocks() {
        assert_eq!(read(""), "");
        assert_eq!(read("a; b c\td\n e;"), "a() b(c|d|e)");
        assert_eq!(read("http{server{listen 80;}}"), "http(){server(){listen(80)}}");
        assert_eq!(read("\u{feff}a b;# c {\n#d\n e;"), "a(b) e()");
        assert_eq!(read("a b#c;"), "a(b#c)", "`#` starts a comment only at the beginning of a word");
        assert_eq!(read("location ~ ^/x}y { }"), "location(~|^/x}y){}");
    }

    #[test]
    fn quotes_escapes_and_variables() {
        assert_eq!(read(r#"a "b c;{}#" 'd "e"';"#), r#"a(b c;{}#|d "e")"#);
        assert_eq!(
            read(r#"a "b\"c\\d\t" e\ f \.x;"#),
            "a(b\"c\\d\t|e\\ f|\\.x)",
            "a backslash that escapes nothing stays"
        );
        assert_eq!(read("a ${x}y$z{b;}"), "a(${x}y$z){b()}", "`{{` opens no block only directly after a dollar sign");
    }

    #[test]
    fn lua_is_skipped() {
        let text =
            "access_by_lua_block { if x == \"}\" then -- }\n a = {1} --[[ } ]] b = [=[ } ]] ]=] s = '\\'}' end }\nb;";
        assert_eq!(read(text), "access_by_lua_block(){} b()");
        assert!(read("x_by_lua_block {").starts_with("(1, 16) a block of Lua"));
    }

    #[test]
    fn errors_have_a_position() {
        for (text, at) in [
            ("a b", "(1, 1) `a` does not end"),
            ("a {\n b c\n}", "(2, 2) `b` does not end"),
            ("a;\n}", "(2, 1) `}` closes no block"),
            ("a;;", "(1, 3) `;` has no directive"),
            ("\n {", "(2, 2) `{` opens"),
            ("a {\n b;", "(1, 1) the block of `a`"),
            ("a 'b;", "(1, 3) a quote is not closed"),
            ("a 'b'c;", "(1, 6) text follows directly"),
        ] {
            assert!(read(text).starts_with(at), "{text:?}: {}", read(text));
        }
        assert!(read(&"a{".repeat(limits::IMPORT_DEPTH + 1)).contains("nested deeper"));
        assert!(read(&"a{".repeat(100_000)).contains("nested deeper"));
    }

    proptest! {
        #[test]
        fn it_never_panics(text in "([a-z${}; \n\"'#\\\\=\\[\\]-]|_by_lua_block|location|\\PC){0,80}") {
            let _ = parse(&text);
        }

        #[test]
        fn words_come_back_as_they_were(words in proptest::collection::vec("\\PC{0,12}", 1..5)) {
            let quoted: Vec<String> =
                words.iter().map(|word| format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))).collect();
            let block = parse(&format!("name {};", quoted.join(" "))).expect("valid input");
            prop_assert_eq!(&block[0].args, &words);
        }
    }
}
