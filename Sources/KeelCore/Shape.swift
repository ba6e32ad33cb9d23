/// The extents of a tensor, outermost first; `[]` is a scalar. Tensors are dense and row-major.
public struct Shape: Hashable, Sendable, Codable, ExpressibleByArrayLiteral, CustomStringConvertible {
  /// The extents, outermost first. Nothing is checked: a tensor refuses a negative one.
  public var dimensions: [Int]

  /// A shape of these extents, outermost first.
  public init(_ dimensions: [Int]) { self.dimensions = dimensions }
  public init(arrayLiteral elements: Int...) { dimensions = elements }

  /// The shape without axes, of one element.
  public static let scalar = Shape([])

  /// Number of axes.
  public var rank: Int { dimensions.count }

  /// Number of elements; 1 for a scalar, 0 as soon as one extent is not positive, `Int.max` for any number that an `Int`
  /// cannot hold (no tensor is that large, so a check against what is there refuses it).
  public var count: Int {
    dimensions.contains { $0 <= 0 } ? 0 : dimensions.reduce(1) { $0.multipliedSaturating(by: $1) }
  }

  /// The extent of an axis, which must be one of `0..<rank`; `resolve(axis:)` checks.
  public subscript(axis: Int) -> Int { dimensions[axis] }

  /// Row-major strides in elements, one an axis; `Int.max` where an `Int` cannot hold one.
  public var strides: [Int] {
    var strides = [Int](repeating: 1, count: rank)
    for axis in stride(from: rank - 2, through: 0, by: -1) {
      strides[axis] = strides[axis + 1].multipliedSaturating(by: dimensions[axis + 1])
    }
    return strides
  }

  /// The axis counted from the front, where `-1` names the last one; nil when there is no such axis.
  public func resolve(axis: Int) -> Int? {
    let resolved = axis < 0 ? axis + rank : axis
    return dimensions.indices.contains(resolved) ? resolved : nil
  }

  /// NumPy's rule: shapes align at the last axis, and an extent of 1 stretches. Nil when they do not fit.
  public func broadcast(with other: Shape) -> Shape? {
    let rank = max(rank, other.rank)
    var result = [Int](repeating: 1, count: rank)
    for axis in 0..<rank {
      let a = axis < rank - self.rank ? 1 : dimensions[axis - rank + self.rank]
      let b = axis < rank - other.rank ? 1 : other.dimensions[axis - rank + other.rank]
      guard a == b || a == 1 || b == 1 else { return nil }
      result[axis] = a == 1 ? b : a
    }
    return Shape(result)
  }

  public var description: String { "[" + dimensions.map(String.init).joined(separator: ", ") + "]" }

  /// Whether a tensor can have it: no extent is negative.
  var isPossible: Bool { dimensions.allSatisfy { $0 >= 0 } }
}

extension Int {
  /// The product, or `Int.max` or `Int.min` where it does not fit.
  func multipliedSaturating(by other: Int) -> Int {
    let (product, overflow) = multipliedReportingOverflow(by: other)
    return overflow ? ((self < 0) == (other < 0) ? .max : .min) : product
  }
}
