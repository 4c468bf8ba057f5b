/** Cases that a fuzz run once failed on, kept so that they stay right. It prints them in this form. */
import type { Input } from "./catalogue.js";

export const fixtures: readonly Input[] = [];
