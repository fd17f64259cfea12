//! Pages as text. What comes from outside goes through [`escape`].

use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};

/// A whole page; `body` is HTML.
pub(super) fn page(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"stylesheet\" href=\"style.css\">\n\
         <link rel=\"icon\" href=\"icon.svg\">\n\
         </head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )
}

/// A page that says why there is none.
pub(super) fn refused(status: StatusCode, why: &str) -> Response {
    let body = format!("<h1>Sorry</h1>\n<p>{}</p>\n", escape(why));
    (status, Html(page("Meshtone", &body))).into_response()
}

/// A line of a form.
pub(super) struct Field<'a> {
    pub(super) name: &'a str,
    pub(super) label: &'a str,
    pub(super) hint: &'a str,
    /// Further attributes, HTML.
    pub(super) kind: &'a str,
    pub(super) value: &'a str,
    pub(super) wrong: Option<&'a str>,
}

/// A line of a form with its label, what belongs in it, and what is wrong with it, where a screen reader finds all of that.
pub(super) fn field(field: &Field<'_>) -> String {
    let Field { name, label, hint, kind, value, wrong } = field;
    let value = escape(value);
    let (wrong, described, state) = match wrong {
        Some(why) => (
            format!("<p class=\"wrong\" id=\"{name}-wrong\" role=\"alert\">{}</p>\n", escape(why)),
            format!("{name}-wrong {name}-hint"),
            " aria-invalid=\"true\" autofocus",
        ),
        None => (String::new(), format!("{name}-hint"), ""),
    };
    format!(
        "<label for=\"{name}\">{label}</label>\n<p class=\"hint\" id=\"{name}-hint\">{hint}</p>\n{wrong}\
         <input id=\"{name}\" name=\"{name}\" {kind} value=\"{value}\" required aria-describedby=\"{described}\"{state}>\n"
    )
}

/// What a form sends without showing it.
pub(super) fn hidden(name: &str, value: &str) -> String {
    format!("<input type=\"hidden\" name=\"{name}\" value=\"{}\">\n", escape(value))
}

/// Text as it stands in HTML, within an element or the quotes of an attribute.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_is_shown_and_never_obeyed() {
        assert_eq!(escape("<b a='\"'>&amp;"), "&lt;b a=&#39;&quot;&#39;&gt;&amp;amp;");
        assert!(!page("</title><script>", "").contains("<script>"));
    }
}
