// Sets the chosen colours before the page is drawn. This is a classic script, which runs at its place in the page.
{
  let theme = null;
  try {
    theme = localStorage.getItem("watchbox theme");
  } catch {
    // There is no storage: the system's colours are used.
  }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
}
