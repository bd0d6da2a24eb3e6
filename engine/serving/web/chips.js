// A row of names that can be added and taken away: "with", "without".

export class Chips {
  /** `onChange` is called whenever the names have changed. */
  constructor(row, label, onChange) {
    this.row = row;
    this.onChange = onChange;
    this.names = [];
    this.input = document.createElement("input");
    this.input.type = "text";
    this.input.maxLength = 100;
    this.input.placeholder = "add an ingredient";
    this.input.setAttribute("aria-label", label);
    this.input.enterKeyHint = "done";
    this.input.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === ",") {
        event.preventDefault();
        this.take();
      } else if (event.key === "Backspace" && !this.input.value && this.names.length) {
        this.remove(this.names.at(-1));
      }
    });
    this.input.addEventListener("blur", () => this.take());
    row.append(this.input);
  }

  take() {
    const names = this.input.value.split(/[,;\n]/).map((name) => name.trim()).filter(Boolean);
    const fresh = names.filter((name) => !this.names.includes(name));
    this.input.value = "";
    if (fresh.length) this.set([...this.names, ...fresh]);
  }

  remove(name) {
    this.set(this.names.filter((other) => other !== name));
    this.input.focus();
  }

  set(names) {
    this.names = names;
    this.row.querySelectorAll(".chip").forEach((chip) => chip.remove());
    for (const name of names) {
      const chip = document.createElement("button");
      chip.type = "button";
      chip.className = "chip";
      chip.textContent = name;
      chip.setAttribute("aria-label", `${name}, take away`);
      chip.addEventListener("click", () => this.remove(name));
      this.input.before(chip);
    }
    this.onChange();
  }
}
