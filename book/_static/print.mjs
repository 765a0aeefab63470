// Paper is white: a page in dark colours is printed in light ones, with its folds open.

const printed = matchMedia('print');
let before = null;

function prepare() {
  if (before) return;
  const {theme, mode} = document.documentElement.dataset;
  const folded = [...document.querySelectorAll('details:not([open])')];
  before = {theme, mode, folded};
  document.documentElement.dataset.theme = 'light';
  for (const fold of folded) fold.open = true;
  for (const picture of document.querySelectorAll('img[loading="lazy"]')) picture.loading = 'eager';
}

function restore() {
  if (!before) return;
  document.documentElement.dataset.theme = before.theme;
  for (const fold of before.folded) fold.open = false;
  before = null;
}

addEventListener('beforeprint', prepare);
addEventListener('afterprint', restore);
printed.addEventListener('change', ({matches}) => (matches ? prepare() : restore()));
