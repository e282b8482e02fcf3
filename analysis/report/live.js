// Keeps the state at the top of a served page up to date, and loads the page anew when more of the run has finished.
// What the reader has unfolded stays so; the browser itself keeps the place.
const state = document.getElementById("state");
const folds = () => [...document.querySelectorAll("details")];
const unfolded = JSON.parse(sessionStorage.getItem("unfolded") ?? "[]");
folds().forEach((fold, place) => { fold.open = unfolded[place] ?? fold.open; });

async function look() {
  try {
    const answer = await fetch("state.json", {cache: "no-store"});
    if (!answer.ok) throw new Error(answer.statusText);
    const told = await answer.json();
    if (told.revision !== state.dataset.revision && !document.hidden) {
      sessionStorage.setItem("unfolded", JSON.stringify(folds().map((fold) => fold.open)));
      location.reload();
      return;
    }
    state.innerHTML = told.html;
    state.dataset.is = told.state;
  } catch (error) {
    state.dataset.is = "away";
  }
  setTimeout(look, 2000);
}
look();
