// What the theme leaves to screen readers and keyboards: a button in each code block is no landmark,
// and a table that is wider than the page can be scrolled without a mouse.
const mend = () => {
  for (const nav of document.querySelectorAll(".md-code__nav:not([role])")) {
    nav.setAttribute("role", "none");
  }
  for (const wide of document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])")) {
    if (wide.scrollWidth > wide.clientWidth) {
      wide.setAttribute("tabindex", "0");
    }
  }
};
new MutationObserver(mend).observe(document.documentElement, { childList: true, subtree: true });
addEventListener("load", mend);
addEventListener("resize", mend);
