import KeelCore

/// Reduction over a run of neighbouring axes, which the result no longer has.
public struct Reduce: OperationRules {
  public enum Kind: String, Hashable, Sendable, CaseIterable {
    case sum
    case max
  }

  public let kind: Kind
  public let axes: Range<Int>

  public init(kind: Kind, axes: Range<Int>) {
    self.kind = kind
    self.axes = axes
  }

  public var name: String { kind == .sum ? "reduceSum" : "reduceMax" }
  public var attributes: String {
    axes.count == 1 ? "axis \(axes.lowerBound)" : "axes \(axes.lowerBound)…\(axes.upperBound - 1)"
  }
  public var outputCount: Int { 1 }

  public func outputTypes(_ inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try expect(inputs, count: 1)
    let dtype = try expectFloatingPoint(inputs)
    guard !axes.isEmpty, axes.lowerBound >= 0, axes.upperBound <= inputs[0].shape.rank else {
      throw GraphError(name, "expects axes of \(inputs[0]), got \(axes)")
    }
    var dimensions = inputs[0].shape.dimensions
    dimensions.removeSubrange(axes)
    return [TensorType(Shape(dimensions), dtype)]
  }

  public func gradient(_ context: GradientContext) -> [Tensor?]? {
    let x = context.inputs[0]
    guard let dy = context.cotangents[0] else { return [nil] }
    let kept = keptShape(x.shape)
    switch kind {
    case .sum: return [dy.reshape(kept).broadcast(to: x.shape)]
    case .max:
      // Equal maxima share the cotangent.
      let mask = x.elementwise(.equal, context.outputs[0].reshape(kept))
      let share = mask / mask.sum(axes: Array(axes), keepingDimensions: true)
      return [share * dy.reshape(kept)]
    }
  }

  public func definition(_ inputs: [Tensor]) -> [Tensor]? { nil }
  public var inPlace: [(output: Int, operand: Int)] { [] }

  private func keptShape(_ shape: Shape) -> Shape {
    Shape(shape.dimensions.enumerated().map { axes.contains($0.offset) ? 1 : $0.element })
  }

  /// The operand seen as [outer, reduced, inner].
  public func extents(of shape: Shape) -> (outer: Int, reduced: Int, inner: Int) {
    let dimensions = shape.dimensions
    return (
      dimensions[..<axes.lowerBound].reduce(1, *), dimensions[axes].reduce(1, *),
      dimensions[axes.upperBound...].reduce(1, *)
    )
  }
}
