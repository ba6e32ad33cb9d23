import KeelCore
import KeelGraph
import Testing

@Suite struct MatMulTests {
  private static let transposes = [(false, false), (true, false), (false, true), (true, true)]

  /// Operands that make a [4, 3] product over 5.
  private static func types(_ a: Bool, _ b: Bool) -> (TensorType, TensorType) {
    (a ? f64(5, 4) : f64(4, 5), b ? f64(3, 5) : f64(5, 3))
  }

  @Test(arguments: transposes) func product(_ transposed: (a: Bool, b: Bool)) throws {
    // [1 2 3; 4 5 6] · [1 0; 2 1; 0 3] = [5 11; 14 23]
    let a: [Double] = transposed.a ? [1, 4, 2, 5, 3, 6] : [1, 2, 3, 4, 5, 6]
    let b: [Double] = transposed.b ? [1, 2, 0, 0, 1, 3] : [1, 0, 2, 1, 0, 3]
    let product = try interpret(["a": a, "b": b]) {
      $0.input("a", transposed.a ? f64(3, 2) : f64(2, 3)).matMul(
        $0.input("b", transposed.b ? f64(2, 3) : f64(3, 2)), transposeA: transposed.a, transposeB: transposed.b)
    }
    #expect(product == [5, 11, 14, 23])
  }

  @Test func emptyInnerExtentGivesZeros() throws {
    #expect(
      try interpret(["a": [], "b": []]) { $0.input("a", f64(2, 0)).matMul($0.input("b", f64(0, 2))) } == [0, 0, 0, 0])
  }

  @Test(arguments: transposes) func gradient(_ transposed: (a: Bool, b: Bool)) throws {
    let (a, b) = Self.types(transposed.a, transposed.b)
    try expectGradients(["a": a, "b": b]) { _, x in
      x[0].matMul(x[1], transposeA: transposed.a, transposeB: transposed.b)
    }
  }

  @Test(arguments: transposes) func gradientsOfGradients(_ transposed: (a: Bool, b: Bool)) throws {
    let (a, b) = Self.types(transposed.a, transposed.b)
    try expectGradients(["a": a, "b": b]) { builder, x in
      let y = x[0].matMul(x[1], transposeA: transposed.a, transposeB: transposed.b).elementwise(.tanh).sum()
      return builder.gradients(of: y, withRespectTo: [x[0]])[0]
    }
  }

  @Test func aMatrixTimesItself() throws {
    try expectGradients(["a": f64(3, 3)]) { _, x in x[0].matMul(x[0]) }
    try expectGradients(["a": f64(4, 3)]) { _, x in x[0].matMul(x[0], transposeA: true) }
  }

  @Test func epilogueAndItsGradient() throws {
    let bias = Expression(
      inputCount: 2, instructions: [.init(.add, [.input(0), .input(1)]), .init(.tanh, [.instruction(0)])])
    try expectGradients(["a": f64(4, 5), "b": f64(5, 3), "bias": f64(3)]) { builder, x in
      builder.append(.matMul(MatMul(epilogue: bias)), x)[0]
    }
    let builder = GraphBuilder(dtype: .float64)
    let x = [builder.input("a", f64(4, 5)), builder.input("b", f64(5, 3)), builder.input("bias", f64(3))]
    builder.output("fused", builder.append(.matMul(MatMul(epilogue: bias)), x)[0])
    builder.output("plain", (x[0].matMul(x[1]) + x[2]).elementwise(.tanh))
    let graph = try builder.graph()
    let outputs = try Interpreter(graph).run(randomInputs(graph, seed: 1)).outputs
    #expect(outputs["fused"] == outputs["plain"])
  }

  @Test func typeRule() throws {
    let (nn, tt) = (Operation.matMul(MatMul()), Operation.matMul(MatMul(transposeA: true, transposeB: true)))
    #expect(try outputTypes(nn, f32(32, 784), f32(784, 10)) == [f32(32, 10)])
    #expect(try outputTypes(tt, f32(784, 32), f32(10, 784)) == [f32(32, 10)])
    #expect(
      refusal(nn, f32(32, 784), f32(10, 784)) == "[matMul] expects inner extents that agree, got [32, 784] · [10, 784]")
    #expect(
      refusal(tt, f32(32, 784), f32(10, 784))
        == "[matMul] expects inner extents that agree, got [32, 784] · [10, 784] (read transposed: AB)")
    #expect(
      refusal(.matMul(MatMul(transposeB: true)), f32(2, 3), f32(3, 2))
        == "[matMul] expects inner extents that agree, got [2, 3] · [3, 2] (read transposed: B)")
    #expect(refusal(nn, f32(2, 3, 4), f32(4, 2)) == "[matMul] expects two matrices, got f32[2, 3, 4] and f32[4, 2]")
    #expect(refusal(nn, f32(2, 3)) == "[matMul] expects 2 operands, got 1")
    #expect(
      refusal(nn, i32(2, 3), i32(3, 2))
        == "[matMul] expects operands of one floating-point type, got [i32[2, 3], i32[3, 2]]")
    #expect(
      refusal { b in b.scope("head") { _ = b.input("x", f32(2, 3)).matMul(b.input("w", f32(4, 5))) } }
        == "[matMul] layer.head: expects inner extents that agree, got [2, 3] · [4, 5]")

    let biased = Operation.matMul(MatMul(epilogue: Expression(.add)))
    for bias in [f32(10), f32(1, 10), f32(32, 1), f32(32, 10), f32(1), f32()] {
      #expect(try outputTypes(biased, f32(32, 784), f32(784, 10), bias) == [f32(32, 10)])
    }
    #expect(
      refusal(biased, f32(32, 784), f32(784, 10), f32(32))
        == "[matMul] expects shapes that broadcast, got [32, 10] and [32]")
    #expect(
      refusal(biased, f32(32, 784), f32(784, 1), f32(32, 10))?.hasPrefix(
        "[matMul] expects epilogue operands that broadcast to [32, 1]") == true)
    #expect(refusal(biased, f32(32, 784), f32(784, 10)) == "[matMul] expects 3 operands, got 2")
  }
}
