import { describe, expect, test } from "vitest";
import { disposedError, FusedTopKError, invalidArgument } from "../src/index.js";

describe("FusedTopKError", () => {
  test("is an Error with a name, a code, and a message that ends with the fix", () => {
    const error = new FusedTopKError("ERR_BACKEND_UNAVAILABLE", "No adapter was found.", { fix: "Install a driver." });
    expect(error).toBeInstanceOf(Error);
    expect(error.name).toBe("FusedTopKError");
    expect(error.code).toBe("ERR_BACKEND_UNAVAILABLE");
    expect(error.fix).toBe("Install a driver.");
    expect(error.message).toBe("No adapter was found. Install a driver.");
  });

  test("has the fix on a line of its own after a problem of several lines", () => {
    const error = new FusedTopKError("ERR_DEVICE", "Two reasons.\n  one\n  two\n", { fix: "Mend them." });
    expect(error.message).toBe("Two reasons.\n  one\n  two\nMend them.");
  });

  test("carries its cause, and has neither fix nor cause unless given", () => {
    const cause = new RangeError("too long");
    expect(new FusedTopKError("ERR_OUT_OF_MEMORY", "No memory.", { cause }).cause).toBe(cause);
    const bare = new FusedTopKError("ERR_DEVICE", "It failed.");
    expect(bare.message).toBe("It failed.");
    expect("fix" in bare && bare.fix !== undefined).toBe(false);
    expect("cause" in bare).toBe(false);
  });
});

test.each([
  [0, "0"],
  [-0.5, "-0.5"],
  [Number.NaN, "NaN"],
  ["2", '"2"'],
  [3n, "3n"],
  [undefined, "undefined"],
  [null, "null"],
  [[], "[]"],
  [new Float64Array(2), "an object of type Float64Array"],
  [Object.create(null), "an object of type Object"],
  [() => 1, "a function"],
])("invalidArgument names the received value: %s", (received, named) => {
  const error = invalidArgument("k", "an integer", received, "Pass an integer.");
  expect(error.message).toBe(`Expected an integer for k but received ${named}. Pass an integer.`);
  expect(error.code).toBe("ERR_INVALID_ARGUMENT");
});

test("disposedError names what was disposed", () => {
  const error = disposedError("cpu backend");
  expect(error.code).toBe("ERR_DISPOSED");
  expect(error.message).toMatch(/^The cpu backend was disposed before this call\. Create a new one/);
});
