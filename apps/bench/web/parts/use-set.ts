/** A setting that is a set of names, encoded and separated by semicolons in the link. */
import { type Tab, useSetting } from "../link.js";

export function useSet(
  tab: Tab,
  name: string,
  initial = "",
): [ReadonlySet<string>, (item: string, isIn: boolean) => void] {
  const [value, setValue] = useSetting(tab, name, initial);
  const set = new Set(value === "" ? [] : value.split(";").map(decode));
  const toggle = (item: string, isIn: boolean) => {
    const next = new Set(set);
    if (isIn) next.add(item);
    else next.delete(item);
    setValue([...next].map(encodeURIComponent).join(";"));
  };
  return [set, toggle];
}

/** A link of another making may hold what is no encoding: then it is the name itself. */
function decode(name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}
