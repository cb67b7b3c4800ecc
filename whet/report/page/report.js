"use strict";
// A touch screen has no hover: a tap on a token tells its numbers at the foot of the page.
const samples = document.getElementById("samples");
const readout = document.getElementById("readout");
if (samples) {
  samples.addEventListener("click", (event) => {
    const token = event.target.closest(".t");
    readout.hidden = !token || !token.title;
    if (token) readout.textContent = JSON.stringify(token.textContent) + "  " + token.title;
  });
}
