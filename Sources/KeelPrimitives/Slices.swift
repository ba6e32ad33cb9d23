/// How many values of a sum one work-item adds before slices are merged in index order. A function of the shape alone, so
/// that the bits do not depend on the device.
struct Slices: Hashable, Sendable {
  let count: Int
  let length: Int

  /// At most 64 slices of a multiple of 256 values, 1024 at least; the last may be shorter.
  init(values: Int) {
    length = max(1024, divideUp(divideUp(values, 64), 256) * 256)
    count = max(1, divideUp(values, length))
  }
}
