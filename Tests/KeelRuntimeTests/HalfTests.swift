import KeelCore
import KeelGraph
import KeelPrimitives
import KeelRuntime
import Testing

/// Values stored in 16 bits and computed in float32, on every device.
@Suite(.serialized) @MainActor struct HalfTests {
  /// Runs a graph that `body` traces with these inputs; gives its output and the number of launches.
  private func run(
    _ inputs: KeyValuePairs<String, HostTensor>, on context: ComputeContext, _ body: ([Tensor]) -> Tensor
  ) throws -> (value: HostTensor, launches: Int) {
    let builder = GraphBuilder()
    builder.output("y", body(inputs.map { builder.input($0.key, $0.value.type) }))
    let store = VariableStore(context)
    try store.declare(inputs.map { Variable($0.key, $0.value.type, .data) })
    for (name, value) in inputs { try store.write(name, value) }
    let executable = try Executable(builder.graph(), variables: store, options: Executable.Options())
    try executable.run()
    return (try executable.output("y"), executable.launches.count)
  }

  /// Both bits for bits, but that any NaN is as good as another.
  private func same(_ a: HostTensor, _ b: HostTensor) -> Bool {
    a.type == b.type
      && zip(a.doubles, b.doubles).allSatisfy { $0.bitPattern == $1.bitPattern || ($0.isNaN && $1.isNaN) }
  }

  private func everyValue(_ dtype: DType) throws -> HostTensor {
    try HostTensor(TensorType([65536], dtype), bytes: (0...UInt16.max).flatMap { [UInt8($0 & 0xFF), UInt8($0 >> 8)] })
  }

  @Test(arguments: [DType.float16, .bfloat16]) func everyValueIsLoaded(_ dtype: DType) throws {
    let all = try everyValue(dtype)
    for context in Devices.contexts {
      let single = try run(["x": all], on: context) { $0[0].cast(to: .float32) }
      #expect(single.launches == 1 && same(single.value, all.converted(to: .float32)), "\(context.profile.name)")
    }
  }

  /// Values, the middles between neighbours, and what lies next to those, of both signs, and what is out of range.
  @Test(arguments: [DType.float16, .bfloat16], [DType.float32, .float64])
  func everyRoundingIsTheHosts(_ dtype: DType, _ source: DType) throws {
    let finite = Array(try everyValue(dtype).doubles.prefix(dtype == .float16 ? 0x7C00 : 0x7F80))
    let middles = zip(finite, finite.dropFirst()).map { ($0 + $1) / 2 }
    let next = middles.flatMap { [$0.nextUp, $0.nextDown, $0 * (1 + 0x1p-22), $0 * (1 - 0x1p-22)] }
    let extremes: [Double] = [1e5, 0x1.FEFFFFp127, 0x1.FFp127, 1e39, 1e300, .infinity, .nan, 1e-60]
    let positive: [Double] = finite + middles + next + extremes
    let values = positive + positive.map { -$0 }
    let x = try HostTensor(TensorType([values.count], source), values: values)
    for context in Devices.contexts where source == .float32 || context.profile.hasFP64 {
      let stored = try run(["x": x], on: context) { $0[0].cast(to: dtype) }.value
      #expect(same(stored, x.converted(to: dtype)), "\(context.profile.name)")
    }
  }

  /// Casts at the ends of an expression are part of its one launch, however long it is.
  @Test(arguments: [DType.float16, .bfloat16]) func castsAtTheEndsAreNoLaunches(_ dtype: DType) throws {
    let x = try HostTensor(TensorType([1003], dtype), values: (0..<1003).map { Double($0) / 512 - 1 })
    let b = try HostTensor([1003], (0..<1003).map { Float($0) / 2048 })
    for context in Devices.contexts {
      let result = try run(["x": x, "b": b], on: context) { t in
        ((t[0].cast(to: .float32) + t[1]) * 0.5 - t[0].cast(to: .float32)).elementwise(.relu).cast(to: dtype)
      }
      #expect(result.launches == 1)
      let expected = try HostTensor(x.type, values: zip(x.doubles, b.doubles).map { max(0, ($0 + $1) * 0.5 - $0) })
      #expect(same(result.value, expected))
    }
  }

  /// What is cast to 16 bits and back is rounded, though all of it is float32 around.
  @Test(arguments: [DType.float16, .bfloat16]) func aCastInTheMiddleRounds(_ dtype: DType) throws {
    let x = try HostTensor([1003], (0..<1003).map { Float($0) / 3 })
    for context in Devices.contexts {
      let result = try run(["x": x], on: context) { t in
        let doubled = t[0] + t[0]
        return doubled.cast(to: dtype).cast(to: .float32) * 2.0
      }.value
      let rounded = try HostTensor(TensorType([1003], dtype), values: x.doubles.map { 2 * $0 })
      #expect(result.doubles == rounded.doubles.map { 2 * $0 })
      #expect(result.doubles != x.doubles.map { 4 * $0 })
    }
  }

  /// Sums are in float32, so that 16 bits lose nothing on the way: 4096 ones are 4096.
  @Test(arguments: [DType.float16, .bfloat16]) func sumsAreExactWithin(_ dtype: DType) throws {
    for shape: Shape in [[4096], [4096, 9], [3, 4096], [20_480, 2]] {
      let ones = try HostTensor(TensorType(shape, dtype), values: [Double](repeating: 1, count: shape.count))
      let axis = shape[0] >= 4096 ? 0 : 1
      for context in Devices.contexts {
        let sum = try run(["x": ones], on: context) { $0[0].sum(axes: [axis]) }.value
        #expect(sum.dtype == dtype && sum.doubles.allSatisfy { $0 == Double(shape[axis]) })
      }
    }
  }

  /// The sum is beyond float16.
  @Test(arguments: [DType.float16, .bfloat16]) func meansAreWithinWhereSumsAreNot(_ dtype: DType) throws {
    let x = try HostTensor(TensorType([2, 4096], dtype), values: (0..<8192).map { $0 < 4096 ? 128 : -96 })
    for context in Devices.contexts {
      let mean = try run(["x": x], on: context) { $0[0].mean(axes: [1]) }.value
      #expect(mean.type == TensorType([2], dtype) && mean.doubles == [128, -96])
    }
  }

  /// d/dx Σ (x·w)² = 2·x·w², in the type of x; the weight is a row, and its gradient a sum.
  @Test(arguments: [DType.float16, .bfloat16]) func gradientsAreOfTheOperandsType(_ dtype: DType) throws {
    let x = try HostTensor(TensorType([4, 3], dtype), values: (0..<12).map { Double($0) - 5 })
    let w = try HostTensor(TensorType([3], dtype), values: [1, -2, 0.5])
    for context in Devices.contexts {
      for mixed in [false, true] {
        func gradient(_ position: Int) throws -> HostTensor {
          try run(["x": x, "w": w], on: context) { t in
            let product = mixed ? t[0].cast(to: .float32) * t[1].cast(to: .float32) : t[0] * t[1]
            let loss = product.elementwise(.square).cast(to: .float32).sum()
            return loss.builder.gradients(of: loss, withRespectTo: t)[position]
          }.value
        }
        let (xs, ws) = (x.doubles, w.doubles)
        let dx = try HostTensor(x.type, values: xs.indices.map { 2 * xs[$0] * ws[$0 % 3] * ws[$0 % 3] })
        #expect(try gradient(0) == dx)
        let dw = ws.indices.map { column in
          stride(from: column, to: 12, by: 3).reduce(0) { $0 + 2 * xs[$1] * xs[$1] * ws[column] }
        }
        #expect(try gradient(1) == HostTensor(w.type, values: dw))
      }
    }
  }
}
