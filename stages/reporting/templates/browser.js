(() => {
  const { images, examples } = JSON.parse(document.getElementById("examples-data").textContent);
  const filters = document.getElementById("filters");
  const cards = document.getElementById("cards");
  const large = document.getElementById("large");
  let shown = examples;
  let position = 0;

  const element = (name, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };
  const percent = (value) => `${Math.round(100 * value)}\u00a0%`;
  const outline = (example) => example.stages.map((stage) => stage.outline).filter(Boolean);

  // The image with layers over it, all stretched to the same size.
  const picture = (example, stage, layers) => {
    const label = [stage.title, stage.note].filter(Boolean).join(", ");
    const sources = [images[example.image], ...layers];
    const stack = element("span", { className: "stack" });
    stack.append(...sources.map((src, number) => element("img", { src, alt: number ? "" : label })));
    stack.style.aspectRatio = example.size.join("/");
    return stack;
  };

  const about = (example) => {
    const facts = [];
    if (example.iou !== null) facts.push(`IoU ${percent(example.iou)}`);
    if (example.group) facts.push(example.group.replaceAll("_", " "));
    return facts.join(", ");
  };

  const card = (example, number) => {
    const stage = example.stages[example.shown];
    const button = element(
      "button",
      { type: "button", className: "card" },
      picture(example, stage, [...stage.layers, ...outline(example)]),
      element("span", { className: "text", textContent: `“${example.text}”` }),
      element("span", { className: "about", textContent: about(example) }),
    );
    button.addEventListener("click", () => open(number));
    return button;
  };

  const open = (number) => {
    position = (number + shown.length) % shown.length;
    const example = shown[position];
    const detail = [about(example), example.kind, `${example.words} words`];
    if (example.area !== null) detail.push(`object: ${(100 * example.area).toFixed(1)}\u00a0% of the image`);
    large.querySelector("h3").textContent = `“${example.text}”`;
    large.querySelector(".note").textContent = detail.filter(Boolean).join(" · ");
    large.querySelector(".stages").replaceChildren(
      ...example.stages.map((stage) => {
        const edge = stage.layers.length && !stage.outline ? outline(example) : [];
        const caption = element("figcaption", {}, element("b", { textContent: stage.title }));
        if (stage.note) caption.append(` ${stage.note}`);
        return element("figure", {}, picture(example, stage, [...stage.layers, ...edge]), caption);
      }),
    );
    if (!large.open) large.showModal();
  };

  const within = (value, range) => {
    const [low, high] = range.split(",").map(Number);
    return value !== null && value >= low && value < high;
  };
  const matches = (example, wanted) =>
    wanted.text.toLowerCase().split(/\s+/).every((word) => example.text.toLowerCase().includes(word)) &&
    ["group", "kind"].every((key) => !wanted[key] || example[key] === wanted[key]) &&
    ["iou", "area", "words"].every((key) => !wanted[key] || within(example[key], wanted[key]));

  const update = () => {
    const wanted = Object.fromEntries(new FormData(filters));
    const [, minus, key] = /^(-?)(.*)$/.exec(wanted.order);
    const sign = minus ? -1 : 1;
    const value = (example) => example[key] ?? sign * Infinity; // what has none comes last
    shown = examples.filter((example) => matches(example, wanted));
    shown.sort((a, b) => (value(a) === value(b) ? 0 : value(a) < value(b) ? -sign : sign));
    cards.replaceChildren(...shown.map(card));
    filters.querySelector("output").textContent = shown.length
      ? `${shown.length} of ${examples.length}`
      : "no expression matches";
  };

  filters.addEventListener("input", update);
  filters.addEventListener("submit", (event) => event.preventDefault());
  large.addEventListener("click", (event) => {
    if (event.target === large) large.close(); // beside the content
    if (event.target.tagName !== "BUTTON") return;
    const step = Number(event.target.value);
    if (step) open(position + step);
    else large.close();
  });
  large.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") open(position - 1);
    if (event.key === "ArrowRight") open(position + 1);
  });
  document.querySelectorAll("[data-outcome]").forEach((link) =>
    link.addEventListener("click", () => {
      filters.elements.group.value = link.dataset.outcome;
      update();
    }),
  );
  update();
})();
