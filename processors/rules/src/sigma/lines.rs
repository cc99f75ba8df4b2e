//! On which line of a YAML document each key stands: a light index beside the parser, which keeps no lines.
//!
//! It reads block style by its indentation and knows nothing of values; a key that it cannot place has the line of the
//! nearest key around it that it can.

/// Deeper keys are not told apart; nothing that is accepted nests as deep.
const DEPTH_MAX: usize = 16;

/// The keys of one document with their lines.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    /// Of the document's first line.
    first: usize,
    keys: Vec<Key>,
    texts: Vec<String>,
}

#[derive(Clone, Debug)]
struct Key {
    path: Vec<String>,
    line: usize,
    /// The line after the last one that belongs to it.
    end: usize,
}

impl Lines {
    /// The index of a document whose first line is line `first` of its file.
    pub fn of(text: &str, first: usize) -> Lines {
        let mut lines = Lines {
            first,
            keys: Vec::new(),
            texts: text.lines().map(str::to_owned).collect(),
        };
        let mut open: Vec<(usize, usize)> = Vec::new();
        let mut scalar_above: Option<usize> = None;
        for (number, text) in text.lines().enumerate() {
            let content = text.trim_start_matches(' ');
            if content.trim().is_empty() || content.starts_with('#') {
                continue;
            }
            let mut indent = text.len() - content.len();
            if scalar_above.is_some_and(|key| indent > key) {
                continue;
            }
            scalar_above = None;
            let mut content = content;
            while let Some(rest) = content.strip_prefix("- ") {
                let inner = rest.trim_start_matches(' ');
                indent += content.len() - inner.len();
                content = inner;
            }
            let Some((key, value)) = key_of(content) else {
                continue;
            };
            while open.last().is_some_and(|(depth, _)| *depth >= indent) {
                lines.close(&mut open, number);
            }
            if open.len() == DEPTH_MAX {
                continue;
            }
            let mut path: Vec<String> = open
                .last()
                .map_or_else(Vec::new, |(_, key)| lines.keys[*key].path.clone());
            path.push(key);
            open.push((indent, lines.keys.len()));
            lines.keys.push(Key {
                path,
                line: number,
                end: usize::MAX,
            });
            if value.starts_with(['|', '>']) {
                scalar_above = Some(indent);
            }
        }
        while !open.is_empty() {
            let end = lines.texts.len();
            lines.close(&mut open, end);
        }
        lines
    }

    fn close(&mut self, open: &mut Vec<(usize, usize)>, end: usize) {
        if let Some((_, key)) = open.pop() {
            self.keys[key].end = end;
        }
    }

    /// The document's first line that says something.
    pub fn start(&self) -> usize {
        self.first + self.keys.first().map_or(0, |key| key.line)
    }

    /// The line of the key at `path`, or of the nearest one around it.
    pub fn line(&self, path: &[&str]) -> usize {
        match self.nearest(path) {
            Some(key) => self.first + key.line,
            None => self.start(),
        }
    }

    /// The line on which `value` stands below the key at `path`; the key's where it is not found.
    pub fn line_of_value(&self, path: &[&str], value: &str) -> usize {
        let mut nearest = None;
        for key in self.keys.iter().filter(|key| is_at(key, path)) {
            nearest = nearest.or(Some(key.line));
            let end = key.end.min(self.texts.len());
            let found = (key.line..end).find(|line| self.texts[*line].contains(value));
            if let Some(line) = found.filter(|_| !value.is_empty()) {
                return self.first + line;
            }
        }
        nearest.map_or_else(|| self.line(path), |line| self.first + line)
    }

    fn nearest(&self, path: &[&str]) -> Option<&Key> {
        (1..=path.len())
            .rev()
            .find_map(|len| self.keys.iter().find(|key| is_at(key, &path[..len])))
    }
}

fn is_at(key: &Key, path: &[&str]) -> bool {
    key.path.len() == path.len() && key.path.iter().zip(path).all(|(one, other)| one == other)
}

/// The key that a line begins with, and what follows its colon.
fn key_of(content: &str) -> Option<(String, &str)> {
    let quote = content.chars().next().filter(|first| ['"', '\''].contains(first));
    let (key, rest) = match quote {
        Some(quote) => content[1..].split_once(quote)?,
        None => {
            let end = content
                .match_indices(':')
                .map(|(at, _)| at)
                .find(|at| matches!(content.as_bytes().get(at + 1), None | Some(b' ')))?;
            (&content[..end], &content[end..])
        }
    };
    let value = rest.trim_start().strip_prefix(':')?;
    Some((key.trim_end().to_owned(), value.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_their_lines() {
        let text = "title: A\ndescription: |\n  detection: no\n\n# detection: no\ndetection:\n  selection:\n    source.ip|cidr:\n      - \
                    10.0.0.0/8\n      - 'x'\n    'quoted key': 1\n  other:\n    - a: 1\n      b: 2\n    - a: 3\n  condition: selection\n";
        let lines = Lines::of(text, 10);
        for (path, line) in [
            (&["title"][..], 10),
            (&["detection"], 15),
            (&["detection", "selection", "source.ip|cidr"], 17),
            (&["detection", "selection", "quoted key"], 20),
            (&["detection", "other", "b"], 23),
            (&["detection", "condition"], 25),
            (&["detection", "nowhere", "deep"], 15),
            (&["nowhere"], 10),
        ] {
            assert_eq!(lines.line(path), line, "{path:?}");
        }
        let path = &["detection", "selection", "source.ip|cidr"];
        assert_eq!(lines.line_of_value(path, "'x'"), 19);
        assert_eq!(lines.line_of_value(path, "absent"), 17);
        assert_eq!(lines.line_of_value(&["detection", "other", "a"], "3"), 24);
    }
}
