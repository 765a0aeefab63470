// Wakes the live figures of a page. A figure's module is loaded when the figure comes into view;
// until then, without JavaScript and in print its still picture is there.

async function wake(stage) {
  const { mount } = await import(`./${stage.dataset.live}.mjs`);
  const room = document.createElement("div");
  room.className = "live-room";
  room.setAttribute("role", "group");
  const picture = stage.querySelector("img");
  room.setAttribute("aria-label", `Live figure: ${stage.dataset.title}`);
  stage.append(room); // first, so that the module can measure it
  mount(room, picture.alt);
  stage.classList.add("live-awake");
}

const observer = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      observer.unobserve(target);
      wake(target);
    }
  },
  { rootMargin: "300px" },
);

for (const stage of document.querySelectorAll(".live-stage")) observer.observe(stage);
