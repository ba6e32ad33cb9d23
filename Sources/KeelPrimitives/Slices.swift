/// How many values of a sum one work-item adds before slices are merged in index order. A function of the shape alone, so
/// that the bits do not depend on the device.
struct Slices: Hashable, Sendable {
  let count: Int
  let length: Int

  /// At most 64 slices of a multiple of `unit` values, and no fewer than `least`; the last may be shorter.
  init(values: Int, atLeast least: Int = 1024, of unit: Int = 256) {
    length = divideUp(max(least, divideUp(values, 64)), unit) * unit
    count = max(1, divideUp(values, length))
  }
}
