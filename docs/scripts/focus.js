// What scrolls sideways on a narrow screen can be reached and scrolled with the keyboard.
function mark() {
  for (const box of document.querySelectorAll("pre > code, .md-typeset table, .md-typeset__table")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}
mark();
addEventListener("load", mark);
addEventListener("resize", mark);
