// What scrolls sideways on a narrow screen can be reached and scrolled with the keyboard.
for (const box of document.querySelectorAll("pre > code, .md-typeset table, .md-typeset__table, .md-typeset__scrollwrap")) {
  if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
}
