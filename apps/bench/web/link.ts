/** The state that a link carries, in the hash: `#/measure?shapes=1x50257&k=50`. */
import { useEffect, useState } from "preact/hooks";

export const tabs = ["measure", "compare", "verify", "generate"] as const;
export type Tab = (typeof tabs)[number];

interface Link {
  tab: Tab;
  settings: URLSearchParams;
}

function readLink(): Link {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const tab = tabs.find((name) => name === path) ?? tabs[0];
  return { tab, settings: new URLSearchParams(query) };
}

function hashOf({ tab, settings }: Link): string {
  const query = settings.toString();
  return `#/${tab}${query === "" ? "" : `?${query}`}`;
}

/** The settings that each tab was last linked with. */
const settingsOf = new Map<Tab, URLSearchParams>();

/** A link to a tab with the settings that it has now; a change of them draws nothing anew that shows such a link. */
export function tabHref(tab: Tab): string {
  return hashOf({ tab, settings: settingsOf.get(tab) ?? new URLSearchParams() });
}

/** The tab of the link, kept up to date. */
export function useTab(): Tab {
  const [tab, setTab] = useState(readLink().tab);
  useEffect(() => {
    const onChange = () => setTab(readLink().tab);
    addEventListener("hashchange", onChange);
    return () => removeEventListener("hashchange", onChange);
  }, []);
  return tab;
}

/**
 * A setting of a tab that its link carries. A value that is the default is left out of the link.
 *
 * @param isValid refuses what a link of another making may hold.
 */
export function useSetting(
  tab: Tab,
  name: string,
  initial: string,
  isValid: (value: string) => boolean = () => true,
): [string, (value: string) => void] {
  const read = () => {
    const link = readLink();
    const value = link.tab === tab ? link.settings.get(name) : settingsOf.get(tab)?.get(name);
    return value != null && isValid(value) ? value : initial;
  };
  const [value, setValue] = useState(read);
  useEffect(() => {
    const onChange = () => setValue(read());
    addEventListener("hashchange", onChange);
    return () => removeEventListener("hashchange", onChange);
  });
  useEffect(() => {
    const link = readLink();
    const settings = link.tab === tab ? link.settings : (settingsOf.get(tab) ?? new URLSearchParams());
    if (value === initial) settings.delete(name);
    else settings.set(name, value);
    settingsOf.set(tab, settings);
    if (link.tab === tab) history.replaceState(null, "", hashOf({ tab, settings }));
  }, [tab, name, initial, value]);
  return [value, setValue];
}
