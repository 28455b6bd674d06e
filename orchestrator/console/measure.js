// Measures the width of texts, so that they fit into a bar.

let pen = null;
let family = "";

export function width(text, font = "12px") {
  pen ??= document.createElement("canvas").getContext("2d");
  family ||= getComputedStyle(document.body).fontFamily;
  pen.font = `${font} ${family}`;
  return pen.measureText(text).width;
}

/** As much of the text as fits into `room` pixels; empty if less than three letters do. */
export function fit(text, room, font) {
  if (room < 16) return "";
  if (width(text, font) <= room) return text;
  let low = 0;
  let high = text.length;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (width(`${text.slice(0, middle)}…`, font) <= room) low = middle;
    else high = middle - 1;
  }
  return low > 2 ? `${text.slice(0, low).trimEnd()}…` : "";
}
