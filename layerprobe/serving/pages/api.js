// Shows the OpenAPI document of this server as a page.
const make = (name, text = "", ...children) => {
  const element = document.createElement(name);
  element.textContent = text;
  element.append(...children);
  return element;
};
const lastName = (reference) => reference.split("/").at(-1);

function typeText(schema) {
  if (schema.$ref) return lastName(schema.$ref);
  if (schema.anyOf) return schema.anyOf.map(typeText).join(" or ");
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.type === "array") return `list of ${typeText(schema.items)}`;
  const range = "minimum" in schema ? ` from ${schema.minimum} to ${schema.maximum}` : "";
  return schema.type ? [schema.type].flat().join(" or ") + range : "any";
}

/** A list of an object's properties, and of those of the objects in it. */
function properties(schema) {
  const list = document.createElement("ul");
  for (const [name, value] of Object.entries(schema.properties || {})) {
    const item = make("li", "", make("code", name), `: ${typeText(value)}`, value.description ? `. ${value.description}` : "");
    const inner = [value, value.items, ...(value.anyOf || [])].find((one) => one && one.properties);
    const each = inner || [value, ...(value.anyOf || [])].flatMap((one) => (one.properties ? [] : one.items && one.items.properties ? [one.items] : []))[0];
    if (each) item.append(properties(each));
    list.append(item);
  }
  return list;
}

function table(heads, rows) {
  const head = make("thead", "", make("tr", "", ...heads.map((text) => Object.assign(make("th", text), { scope: "col" }))));
  const body = make("tbody", "", ...rows.map((row) => make("tr", "", ...row.map((cell) => make("td", "", cell)))));
  const box = make("div", "", make("table", "", head, body));
  box.className = "scroll";
  return box;
}

function operation(path, method, one) {
  const section = make("section", "", make("h2", "", make("code", `${method.toUpperCase()} ${path}`)), make("p", one.summary));
  if (one.description) section.append(make("p", one.description));
  if (one.requestBody) section.append(make("p", `Content types: ${Object.keys(one.requestBody.content).join(", ")}.`));
  if (one.parameters)
    section.append(make("h3", "Query"), table(["name", "value", "meaning"], one.parameters.map((p) => [make("code", p.name), typeText(p.schema), p.description])));
  const answers = Object.entries(one.responses).map(([status, answer]) => [
    status,
    lastName(answer.content["application/json"].schema.$ref),
    answer.description,
  ]);
  section.append(make("h3", "Answers"), table(["status", "schema", "meaning"], answers));
  return section;
}

const openapi = await (await fetch("/openapi.json")).json();
const at = (id) => document.getElementById(id);
at("about").textContent = `${openapi.info.title}. ${openapi.info.description} Version ${openapi.info.version}.`;
const bearer = openapi.security.length ? ` \\\n    -H "Authorization: Bearer $LAYERPROBE_TOKEN"` : "";
at("example").textContent = `curl --data-binary @talk.wav -H "Content-Type: audio/wav"${bearer} \\\n    ${location.origin}/api/ratings`;
for (const [path, methods] of Object.entries(openapi.paths))
  for (const [method, one] of Object.entries(methods)) at("paths").append(operation(path, method, one));
for (const [name, schema] of Object.entries(openapi.components.schemas))
  at("schemas").append(make("h3", name), properties(schema));
