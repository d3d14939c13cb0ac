//! YAML text to a tree that knows where everything stands, with limits on what a file may cost.
//!
//! The text is read as a stream of events: size, nesting and the expansion of aliases are bounded before anything
//! recursive sees the tree.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

/// Largest file, in bytes.
pub const MAX_BYTES: usize = 1 << 20;
/// Deepest nesting of lists and maps.
pub const MAX_DEPTH: usize = 64;
/// Most values in a file, aliases expanded.
pub const MAX_VALUES: usize = 100_000;

/// A value and where it stands. Cloning shares the content.
#[derive(Debug, Clone)]
pub struct Node {
    /// Bytes of the text.
    pub span: Range<usize>,
    /// What it is.
    pub kind: Arc<Kind>,
    /// How many values it has in all, itself included.
    values: usize,
    /// How many levels it has; 1 for a scalar.
    depth: usize,
}

/// What a value is.
#[derive(Debug)]
pub enum Kind {
    /// Text, a number, true, false or nothing.
    Scalar {
        /// Without quotes and escapes.
        text: String,
        /// Whether it stands without quotes, so that it may be more than text.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the file, and where each key is in it.
    Map(Vec<Entry>, HashMap<String, usize>),
}

/// A key of a map with its value.
#[derive(Debug)]
pub struct Entry {
    /// The key, as text.
    pub key: String,
    /// Where the key stands.
    pub key_span: Range<usize>,
    /// The value.
    pub value: Node,
}

impl Node {
    /// The entries, if this is a map.
    pub fn entries(&self) -> &[Entry] {
        match &*self.kind {
            Kind::Map(entries, _) => entries,
            _ => &[],
        }
    }

    /// The items, if this is a list.
    pub fn items(&self) -> &[Node] {
        match &*self.kind {
            Kind::List(items) => items,
            _ => &[],
        }
    }

    /// The entry under `key`, if this is a map that has it.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &*self.kind {
            Kind::Map(entries, index) => index.get(key).and_then(|i| entries.get(*i)),
            _ => None,
        }
    }

    /// Whether nothing stands there (or `null`).
    pub fn is_null(&self) -> bool {
        matches!(&*self.kind, Kind::Scalar { text, plain: true } if is_null(text))
    }
}

/// Whether a plain scalar means "nothing".
pub fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// What is wrong with a text, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Bytes of the text.
    pub span: Range<usize>,
    /// What is wrong. Holds no values of the text, at most keys and names of anchors.
    pub message: String,
    /// The short text at the marker.
    pub label: String,
    /// What to do.
    pub help: Option<String>,
}

/// Reads one document. `text` has no byte order mark.
///
/// # Errors
/// The first [`Fault`] of the text: syntax, a limit, a duplicate key, a second document, something xgenctl does not
/// support (tags, merge keys, keys that are no scalars).
pub fn parse(text: &str) -> Result<Node, Fault> {
    if text.len() > MAX_BYTES {
        return Err(too_large(0..0));
    }
    if let Some((at, c)) =
        text.char_indices().find(|(_, c)| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}'))
    {
        return Err(Fault {
            span: at..at + c.len_utf8(),
            message: format!("control character U+{:04X}", u32::from(c)),
            label: "not allowed in YAML".into(),
            help: Some("save the file as plain UTF-8 text".into()),
        });
    }
    let mut builder = Builder::new(text);
    let mut parser = Parser::new_from_str(text);
    loop {
        match parser.next_event() {
            None | Some(Ok((Event::StreamEnd, _))) => break,
            Some(Ok((event, span))) => builder.event(event, span)?,
            Some(Err(error)) => return Err(builder.syntax(&error)),
        }
    }
    let end = text.len();
    Ok(builder.root.unwrap_or_else(|| scalar(end..end, String::new(), true)))
}

/// The fault of a file beyond [`MAX_BYTES`].
pub fn too_large(span: Range<usize>) -> Fault {
    Fault {
        span,
        message: "the file is larger than 1 MiB".into(),
        label: String::new(),
        help: Some("a project file has a few kilobytes; check that this is the right file".into()),
    }
}

fn scalar(span: Range<usize>, text: String, plain: bool) -> Node {
    Node { span, kind: Arc::new(Kind::Scalar { text, plain }), values: 1, depth: 1 }
}

/// A list or map that is not finished yet.
struct Open {
    start: Range<usize>,
    flow: bool,
    anchor: usize,
    values: usize,
    depth: usize,
    content: OpenContent,
}

enum OpenContent {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, keys: HashMap<String, usize>, key: Option<(String, Range<usize>)> },
}

struct Builder<'a> {
    text: &'a str,
    /// Byte offset of every character; empty where the text is ASCII and both are the same.
    offsets: Vec<u32>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    documents: usize,
    values: usize,
}

impl<'a> Builder<'a> {
    fn new(text: &'a str) -> Self {
        let offsets = if text.is_ascii() {
            Vec::new()
        } else {
            // MAX_BYTES fits into u32 many times over.
            text.char_indices().map(|(at, _)| at as u32).chain([text.len() as u32]).collect()
        };
        Self { text, offsets, open: Vec::new(), anchors: HashMap::new(), root: None, documents: 0, values: 0 }
    }

    fn byte(&self, character: usize) -> usize {
        let at = if self.offsets.is_empty() {
            character
        } else {
            self.offsets.get(character).map_or(self.text.len(), |at| *at as usize)
        };
        at.min(self.text.len())
    }

    fn range(&self, span: Span) -> Range<usize> {
        let start = self.byte(span.start.index());
        start..self.byte(span.end.index()).max(start)
    }

    fn syntax(&self, error: &saphyr_parser::ScanError) -> Fault {
        let at = self.byte(error.marker().index());
        let line_start = self.text[..at].rfind('\n').map_or(0, |i| i + 1);
        let line = self.text[line_start..].lines().next().unwrap_or_default();
        let indent: String = line.chars().take_while(|c| c.is_whitespace()).collect();
        if let Some(tab) = indent.find('\t') {
            return Fault {
                span: line_start + tab..line_start + tab + 1,
                message: "a tab in the indentation".into(),
                label: "tab".into(),
                help: Some("YAML is indented with spaces only".into()),
            };
        }
        if error.info().contains("recursion limit") {
            return too_deep(at..at);
        }
        Fault {
            span: at..at,
            message: format!("not valid YAML: {}", error.info()),
            label: "here".into(),
            help: Some("check indentation, quotes and brackets at and above this line".into()),
        }
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Fault> {
        let range = self.range(span);
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Fault {
                        span: range,
                        message: "a second document".into(),
                        label: "begins here".into(),
                        help: Some("one file holds one project: remove the `---` and what follows".into()),
                    });
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let mut plain = style == ScalarStyle::Plain;
                if let Some(tag) = tag {
                    if !(tag.is_yaml_core_schema() && tag.suffix == "str") {
                        return Err(tagged(range, &tag));
                    }
                    plain = false;
                }
                self.count(1, &range)?;
                // The parser's end of a quoted scalar lies behind the blanks that follow it.
                let shown = self.text[range.clone()].trim_end().len();
                let range = range.start..range.start + shown;
                let node = scalar(range, text.into_owned(), plain);
                self.add(node, anchor)
            }
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id).cloned() else {
                    return Err(Fault {
                        span: range,
                        message: "an alias inside the value it stands for".into(),
                        label: "would expand without end".into(),
                        help: Some("write the value out".into()),
                    });
                };
                self.count(node.values, &range)?;
                if self.open.len() + node.depth > MAX_DEPTH {
                    return Err(too_deep(range));
                }
                self.add(node, 0)
            }
            Event::SequenceStart(anchor, tag) => {
                self.start(range, anchor, tag.as_deref(), OpenContent::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                let content = OpenContent::Map { entries: Vec::new(), keys: HashMap::new(), key: None };
                self.start(range, anchor, tag.as_deref(), content)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(range),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn count(&mut self, values: usize, at: &Range<usize>) -> Result<(), Fault> {
        self.values = self.values.saturating_add(values);
        if self.values > MAX_VALUES {
            return Err(Fault {
                span: at.clone(),
                message: format!("more than {MAX_VALUES} values, aliases expanded"),
                label: "the limit is passed here".into(),
                help: Some("write the file without aliases that refer to each other".into()),
            });
        }
        Ok(())
    }

    fn start(
        &mut self,
        start: Range<usize>,
        anchor: usize,
        tag: Option<&Tag>,
        content: OpenContent,
    ) -> Result<(), Fault> {
        if let Some(tag) = tag {
            return Err(tagged(start, tag));
        }
        if let Some(Open { content: OpenContent::Map { key: None, .. }, .. }) = self.open.last() {
            return Err(bad_key(start));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep(start));
        }
        self.count(1, &start)?;
        let flow = matches!(self.text.as_bytes().get(start.start), Some(b'{' | b'['));
        self.open.push(Open { start, flow, anchor, values: 1, depth: 1, content });
        Ok(())
    }

    fn end(&mut self, end: Range<usize>) -> Result<(), Fault> {
        // The parser emits an end only for what it started.
        let Some(open) = self.open.pop() else { return Ok(()) };
        let last = match &open.content {
            OpenContent::List(items) => items.last().map(|n| n.span.end),
            OpenContent::Map { entries, .. } => entries.last().map(|e| e.value.span.end.max(e.key_span.end)),
        };
        // The end of a block is only noticed at what follows it, beyond blank lines and comments.
        let end = if open.flow { end.end } else { last.unwrap_or(open.start.end) };
        let kind = match open.content {
            OpenContent::List(items) => Kind::List(items),
            OpenContent::Map { entries, keys, .. } => Kind::Map(entries, keys),
        };
        let span = open.start.start..end.max(open.start.start);
        self.add(Node { span, kind: Arc::new(kind), values: open.values, depth: open.depth }, open.anchor)
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.content {
            OpenContent::List(items) => {
                open.values += node.values;
                open.depth = open.depth.max(node.depth + 1);
                items.push(node);
            }
            OpenContent::Map { entries, keys, key } => match key.take() {
                Some((key, key_span)) => {
                    let mut node = node;
                    if node.span.is_empty() {
                        // Nothing stands there; the parser places it at whatever comes next.
                        node.span = key_span.end..key_span.end;
                    }
                    open.values += node.values;
                    open.depth = open.depth.max(node.depth + 1);
                    entries.push(Entry { key, key_span, value: node });
                }
                None => {
                    let Kind::Scalar { text, plain } = &*node.kind else { return Err(bad_key(node.span)) };
                    if *plain && text == "<<" {
                        return Err(Fault {
                            span: node.span,
                            message: "merge keys (`<<`) are not supported".into(),
                            label: "not supported".into(),
                            help: Some("write the keys out".into()),
                        });
                    }
                    if text.is_empty() {
                        return Err(bad_key(node.span));
                    }
                    if let Some(first) = keys.insert(text.clone(), entries.len()) {
                        let first = entries.get(first).map_or(0, |e| e.key_span.start);
                        let line = self.text[..first].matches('\n').count() + 1;
                        return Err(Fault {
                            span: node.span.clone(),
                            message: format!("the key `{}` stands here twice", super::error::shorten(text)),
                            label: format!("first used in line {line}"),
                            help: Some("remove one of them".into()),
                        });
                    }
                    *key = Some((text.clone(), node.span));
                }
            },
        }
        Ok(())
    }
}

fn too_deep(span: Range<usize>) -> Fault {
    Fault {
        span,
        message: format!("nested more than {MAX_DEPTH} levels deep"),
        label: "the limit is passed here".into(),
        help: Some("a project file needs fewer than ten levels; check brackets and indentation".into()),
    }
}

fn bad_key(span: Range<usize>) -> Fault {
    Fault {
        span,
        message: "a key that is not a plain word".into(),
        label: "expected a key".into(),
        help: Some("write `key: value`".into()),
    }
}

fn tagged(span: Range<usize>, tag: &Tag) -> Fault {
    Fault {
        span,
        message: format!("tags are not supported: {}", super::error::shorten(&tag.to_string())),
        label: "this value has a tag".into(),
        help: Some("remove the tag; put text in quotes".into()),
    }
}
