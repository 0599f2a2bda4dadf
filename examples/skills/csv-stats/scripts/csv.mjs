// Reading CSV as RFC 4180 describes it: quoted fields may hold delimiters, line breaks and doubled quotes.

/** Yields the records of a text, each a list of fields. Throws an Error for a quote that is never closed. */
export function* records(text, delimiter = ",") {
  let fields = [];
  let field = "";
  let quoted = false;
  for (let at = text.charCodeAt(0) === 0xfeff ? 1 : 0; at < text.length; at++) {
    const sign = text[at];
    if (quoted) {
      if (sign !== '"') {
        field += sign;
      } else if (text[at + 1] === '"') {
        field += text[++at];
      } else {
        quoted = false;
      }
    } else if (sign === '"' && field === "") {
      quoted = true;
    } else if (sign === delimiter) {
      fields.push(field);
      field = "";
    } else if (sign === "\n" || sign === "\r") {
      if (sign === "\r" && text[at + 1] === "\n") at++;
      yield [...fields, field];
      fields = [];
      field = "";
    } else {
      field += sign;
    }
  }
  if (quoted) throw new Error("a quote is never closed");
  if (field !== "" || fields.length) yield [...fields, field];
}
