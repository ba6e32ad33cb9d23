import KeelCore
import KeelGraph
import Testing

/// The types of storage in graphs: who takes them, and which casts remain.
@Suite struct HalfTests {
  private func f16(_ dimensions: Int...) -> TensorType { TensorType(Shape(dimensions), .float16) }

  private func pipeline(_ body: (GraphBuilder) -> Tensor) throws -> String {
    try Pipeline.standard.run(graph("g", body)).description
  }

  @Test func whatComputesInTheTypeRefusesIt() {
    let reason = "expects f32 or f64, got f16[2, 3]; cast(to: .float32) makes it one"
    #expect(refusal(.matMul(MatMul()), f16(2, 3), f16(3, 4)) == "[matMul] \(reason)")
    #expect(refusal(.matMul(MatMul()), f32(5, 2), f16(2, 3)) == "[matMul] \(reason)")
    #expect(
      refusal(.softmaxCrossEntropy(SoftmaxCrossEntropy()), f16(2, 3), i32(2)) == "[softmaxCrossEntropy] \(reason)")
    #expect(refusal(.topOne(TopOne()), f16(2, 3), i32(2)) == "[topOne] \(reason)")
    #expect(
      refusal(.record(Record(rows: 1)), f16(2, 1), Cursor.type, f16())?.contains("expects f32 or f64, got f16") == true)
    #expect(
      refusal(.gather(Gather(rows: 1, dtype: .int32)), f16(2, 3), i32(4), Cursor.type) == "[gather] \(reason)")
    #expect(refusal(.gather(Gather(rows: 1, dtype: .float16)), f32(2, 3), i32(4), Cursor.type) != nil)
    let step = OptimizerStep(.sgd(momentum: 0, nesterov: false, weightDecay: 0), count: 1)
    #expect(
      refusal(.optimizerStep(step), f32(3), Cursor.type, f16(2, 3), f16(2, 3)) == "[optimizerStep] \(reason)")
  }

  @Test func elementwiseMovementAndReductionsTakeIt() throws {
    #expect(try outputTypes(.elementwise(Elementwise(.add)), f16(2, 3), f16(3)) == [f16(2, 3)])
    #expect(try outputTypes(.reduce(Reduce(kind: .sum, axes: 0..<1)), f16(2, 3)) == [f16(3)])
    #expect(try outputTypes(.transpose(Transpose(permutation: [1, 0])), f16(2, 3)) == [f16(3, 2)])
    #expect(try outputTypes(.broadcast(Broadcast(shape: [2, 3])), f16(3)) == [f16(2, 3)])
    #expect(
      try outputTypes(.gather(Gather(rows: 1, dtype: .float32)), f16(2, 3), i32(4), Cursor.type) == [f32(1, 3)])
    #expect(
      refusal(.elementwise(Elementwise(.add)), f16(2), f32(2))
        == "[add] expects operands of one type, got [f16[2], f32[2]]")
    #expect(
      refusal(.elementwise(Elementwise(.add)), f16(2), TensorType([2], .bfloat16))?.contains("of one type") == true)
  }

  @Test func typesOfAFusedExpression() throws {
    let add = Expression(.add)
    #expect(try outputTypes(.fused(FusedElementwise(add)), f16(2), f16(2)) == [f16(2)])
    #expect(try outputTypes(.fused(FusedElementwise(add, to: .float32)), f16(2), f32(2)) == [f32(2)])
    #expect(
      try outputTypes(.fused(FusedElementwise(add, to: .float16)), TensorType([2], .bfloat16), f32(2)) == [f16(2)])
    #expect(refusal(.fused(FusedElementwise(add)), f16(2), f32(2))?.contains("one floating-point type") == true)
    #expect(
      refusal(.fused(FusedElementwise(add, to: .float16)), f16(2), f64(2))
        == "[fused] expects operands that are computed as f16 is, got [f16[2], f64[2]]")
    #expect(refusal(.fused(FusedElementwise(add, to: .int32)), i32(2), i32(2)) != nil)
  }

  @Test func castsAtTheEndsAreFused() throws {
    #expect(
      try pipeline { b in
        let (x, y) = (b.input("x", f16(4)).cast(to: .float32), b.input("y", f32(4)))
        return ((x + y) * x).elementwise(.tanh).cast(to: .bfloat16)
      } == """
        graph g {
          %0 = x{data} : f16[4]
          %1 = y{data} : f32[4]
          %2 = fused{tanh(multiply(add($0, $1), $0)) to bf16}(%0, %1) : bf16[4]
          output y = %2
        }
        """)
  }

  @Test func aCastInTheMiddleStays() throws {
    #expect(
      try pipeline { b in
        let x = b.input("x", f32(4)).elementwise(.exp).cast(to: .float16)
        return x.cast(to: .float32).elementwise(.tanh)
      } == """
        graph g {
          %0 = x{data} : f32[4]
          %1 = fused{exp($0) to f16}(%0) : f16[4]
          %2 = fused{tanh($0) to f32}(%1) : f32[4]
          output y = %2
        }
        """)
  }

  /// What others read in float32 is kept there, and cast from there.
  @Test func aSharedValueIsCastByItself() throws {
    let text = try pipeline { b in
      let shared = b.input("x", f32(4)).elementwise(.exp)
      b.output("half", shared.cast(to: .float16))
      return shared
    }
    #expect(text.contains("%1 = exp(%0) : f32[4]") && text.contains("%2 = cast(%1) : f16[4]"))
  }

  /// Slots of kernels are in the kernels' own type.
  @Test func noCastGoesIntoASlot() throws {
    let text = try pipeline { b in
      let product = b.input("a", f32(2, 3)).matMul(b.input("b", f32(3, 4)))
      return product + b.input("x", f16(2, 4)).cast(to: .float32)
    }
    #expect(text.contains("matMul(") && text.contains("fused{add($0, $1) to f32}"))
  }

  @Test func castsThatChangeNothingVanish() throws {
    func after(_ body: (GraphBuilder) -> Tensor) throws -> String { try text(after: .canonicalize, body) }
    #expect(!(try after { $0.input("x", f16(4)).cast(to: .float32).cast(to: .float16) }.contains("cast")))
    #expect(
      try after { $0.input("x", f16(4)).cast(to: .float32).cast(to: .float64) } == """
        graph g {
          %0 = x{data} : f16[4]
          %1 = cast(%0) : f64[4]
          output y = %1
        }
        """)
    for middle in [DType.float16, .bfloat16] {
      let text = try after { $0.input("x", f32(4)).cast(to: middle).cast(to: .float32) }
      #expect(text.components(separatedBy: "cast(").count == 3)
    }
    #expect(
      try after { $0.input("x", f16(4)).cast(to: .bfloat16).cast(to: .float32) }.components(separatedBy: "cast(").count
        == 3)
  }
}
