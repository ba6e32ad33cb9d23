import KeelCore

/// A symbolic tensor: a value of a graph that is being built. Calling a layer or an operator on it adds nodes.
public struct Tensor {
  public let builder: GraphBuilder
  public let value: Value
  public let type: TensorType

  public var shape: Shape { type.shape }
  public var dtype: DType { type.dtype }
}

/// Something that stands for a tensor in the graph of another one: a tensor itself, a parameter, a number.
public protocol TensorConvertible {
  func tensor(in builder: GraphBuilder) -> Tensor
}

extension Tensor: TensorConvertible {
  public func tensor(in builder: GraphBuilder) -> Tensor { self }
}

extension Double: TensorConvertible {
  public func tensor(in builder: GraphBuilder) -> Tensor { builder.constant(self) }
}

extension Tensor {
  /// Applies a row of the elementwise table to this tensor and others, broadcast as NumPy does.
  public func elementwise(_ name: ElementwiseName, _ others: any TensorConvertible...) -> Tensor {
    let operands = [self] + others.map { $0.tensor(in: builder) }
    // A bare number takes the type of its neighbour.
    let matched = operands.map { operand in
      operand.dtype == dtype ? operand : builder.converted(operand, to: dtype)
    }
    return builder.append(.elementwise(Elementwise(name)), matched)[0]
  }

  public static func + (a: Tensor, b: some TensorConvertible) -> Tensor { a.elementwise(.add, b) }
  public static func - (a: Tensor, b: some TensorConvertible) -> Tensor { a.elementwise(.subtract, b) }
  public static func * (a: Tensor, b: some TensorConvertible) -> Tensor { a.elementwise(.multiply, b) }
  public static func / (a: Tensor, b: some TensorConvertible) -> Tensor { a.elementwise(.divide, b) }
  public static prefix func - (a: Tensor) -> Tensor { a.elementwise(.negate) }

  /// The product of two matrices, either of them read transposed: [M, K] · [K, N] → [M, N].
  public func matMul(_ other: some TensorConvertible, transposeA: Bool = false, transposeB: Bool = false) -> Tensor {
    builder.append(
      .matMul(MatMul(transposeA: transposeA, transposeB: transposeB)), [self, other.tensor(in: builder)])[0]
  }

  /// The same elements in the same order under another shape.
  public func reshape(_ shape: Shape) -> Tensor { builder.append(.reshape(Reshape(shape: shape)), [self])[0] }

  /// Axis `i` of the result is axis `permutation[i]` of this tensor.
  public func transpose(_ permutation: [Int]) -> Tensor {
    builder.append(.transpose(Transpose(permutation: permutation)), [self])[0]
  }

  /// Stretches extents of 1 and adds leading axes until the shape is `shape`.
  public func broadcast(to shape: Shape) -> Tensor { builder.append(.broadcast(Broadcast(shape: shape)), [self])[0] }

  /// Elements converted to another type.
  public func cast(to dtype: DType) -> Tensor {
    dtype == self.dtype ? self : builder.append(.cast(Cast(dtype: dtype)), [self])[0]
  }

  /// The sum over `axes` (all when nil), whose extents become 1 or go.
  public func sum(axes: [Int]? = nil, keepingDimensions: Bool = false) -> Tensor {
    reduce(.sum, axes: axes, keepingDimensions: keepingDimensions)
  }

  /// The largest element over `axes` (all when nil).
  public func max(axes: [Int]? = nil, keepingDimensions: Bool = false) -> Tensor {
    reduce(.max, axes: axes, keepingDimensions: keepingDimensions)
  }

  /// The mean over `axes` (all when nil).
  public func mean(axes: [Int]? = nil, keepingDimensions: Bool = false) -> Tensor {
    // A type of storage may hold the mean and not the sum.
    let sum = cast(to: dtype.arithmetic).sum(axes: axes, keepingDimensions: keepingDimensions)
    return (sum * (Double(Swift.max(sum.shape.count, 1)) / Double(Swift.max(shape.count, 1)))).cast(to: dtype)
  }

  /// Reduces run by run of neighbouring axes, the last run first, so that every reduction is over one block.
  private func reduce(_ kind: Reduce.Kind, axes: [Int]?, keepingDimensions: Bool) -> Tensor {
    let wanted = axes ?? Array(0..<shape.rank)
    let resolved = wanted.compactMap { shape.resolve(axis: $0) }
    guard resolved.count == wanted.count else {
      builder.record(GraphError("reduce", path: builder.path, "expects axes of \(shape), got \(wanted)"))
      return self
    }
    let reduced = Set(resolved)
    var result = self
    var last = shape.rank - 1
    while last >= 0 {
      guard reduced.contains(last) else {
        last -= 1
        continue
      }
      var first = last
      while first > 0, reduced.contains(first - 1) { first -= 1 }
      result = builder.append(.reduce(Reduce(kind: kind, axes: first..<last + 1)), [result])[0]
      last = first - 1
    }
    guard keepingDimensions else { return result }
    return result.reshape(Shape(shape.dimensions.indices.map { reduced.contains($0) ? 1 : shape[$0] }))
  }

  /// Sums over what broadcasting to this shape from `target` repeated: the transpose of `broadcast`.
  func sum(to target: Shape) -> Tensor {
    if shape == target { return self }
    let extra = shape.rank - target.rank
    let axes = shape.dimensions.indices.filter { $0 < extra || (target[$0 - extra] == 1 && shape[$0] != 1) }
    let summed = sum(axes: axes)
    return summed.shape == target ? summed : summed.reshape(target)
  }
}

extension GraphBuilder {
  /// A number written in the graph's type becomes one of `dtype`; anything else is the caller's mistake and stays.
  fileprivate func converted(_ operand: Tensor, to dtype: DType) -> Tensor {
    guard operand.builder === self, operand.value.node >= 0,
      case .constant(let known) = nodes[operand.value.node].operation
    else { return operand }
    return constant(known.values, operand.shape, dtype)
  }
}
