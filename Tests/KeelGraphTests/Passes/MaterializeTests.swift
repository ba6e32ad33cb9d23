import KeelCore
import KeelGraph
import Testing

@Suite struct MaterializeTests {
  /// One step of plain descent for parameters p and q, with the gradients that `gradients` gives.
  private func step(_ gradients: (GraphBuilder, Tensor, Tensor) -> [Tensor]) throws -> String {
    let builder = GraphBuilder(name: "g")
    let (p, q) = (builder.input("p", f32(2), role: .parameter), builder.input("q", f32(2), role: .parameter))
    let moved = builder.append(
      .optimizerStep(OptimizerStep(.sgd(momentum: 0, nesterov: false, weightDecay: 0), count: 2)),
      [builder.input("rates", f32(1)), builder.input("cursor", Cursor.type), p, q] + gradients(builder, p, q))
    builder.update(p, with: moved[0])
    builder.update(q, with: moved[1])
    return try Pass.materialize.run(builder.graph()).verified().description
  }

  @Test func gradientsWithBytesOfTheirOwnStay() throws {
    let text = try step { _, p, q in [p.elementwise(.tanh), q.elementwise(.tanh)] }
    #expect(!text.contains("copy"))
  }

  @Test func aGradientThatIsAnInputOrAConstant() throws {
    let text = try step { b, p, _ in [b.input("given", f32(2)), b.constant(0.5, [2])] }
    #expect(
      text == """
        graph g {
          %0 = p{parameter} : f32[2]
          %1 = q{parameter} : f32[2]
          %2 = rates{data} : f32[1]
          %3 = cursor{data} : i32[3]
          %4 = given{data} : f32[2]
          %5 = constant{0.5} : f32[2]
          %6 = copy(%4) : f32[2]
          %7 = copy(%5) : f32[2]
          %8:2 = optimizerStep{\(UpdateRule.sgd(momentum: 0, nesterov: false, weightDecay: 0))}(%2, %3, %0, %1, %6, %7) : \
        f32[2], f32[2]
          update "p" <- %8.0
          update "q" <- %8.1
        }
        """)
  }

  @Test func oneGradientForTwoParameters() throws {
    let text = try step { _, p, q in
      let shared = p * q
      return [shared, shared.reshape([1, 2]).reshape([2])]
    }
    // A reshape shows the same bytes.
    #expect(text.contains("%7 = copy(%6) : f32[2]"))
    #expect(text.contains("(%2, %3, %0, %1, %4, %7)"))
  }

  @Test func updatesByInputsConstantsAndSharedValues() throws {
    let builder = GraphBuilder(name: "g")
    let v = ["a", "b", "c", "d"].map { builder.input($0, f32(2)) }
    let sum = v[0] + v[1]
    builder.update(v[0], with: v[1])
    builder.update(v[1], with: builder.constant(0, [2]))
    builder.update(v[2], with: sum)
    builder.update(v[3], with: sum)
    let graph = try builder.graph()
    #expect(
      try Pass.materialize.run(graph).verified().description == """
        graph g {
          %0 = a{data} : f32[2]
          %1 = b{data} : f32[2]
          %2 = c{data} : f32[2]
          %3 = d{data} : f32[2]
          %4 = add(%0, %1) : f32[2]
          %5 = constant{0.0} : f32[2]
          %6 = copy(%1) : f32[2]
          %7 = copy(%5) : f32[2]
          %8 = copy(%4) : f32[2]
          update "a" <- %6
          update "b" <- %7
          update "c" <- %4
          update "d" <- %8
        }
        """)
  }

  @Test func anOutputThatShowsAnUpdatedVariable() throws {
    // The variable's bytes change during the run; the output is what they were.
    let builder = GraphBuilder(name: "g")
    let x = builder.input("x", f32(2))
    builder.output("before", x)
    builder.output("reshaped", x.reshape([1, 2]))
    builder.output("constant", builder.input("z", f32(2)))
    builder.update(x, with: x * x)
    #expect(
      try Pass.materialize.run(builder.graph()).verified().description == """
        graph g {
          %0 = x{data} : f32[2]
          %1 = reshape(%0) : f32[1, 2]
          %2 = z{data} : f32[2]
          %3 = multiply(%0, %0) : f32[2]
          %4 = copy(%0) : f32[2]
          %5 = copy(%1) : f32[1, 2]
          update "x" <- %3
          output before = %4
          output reshaped = %5
          output constant = %2
        }
        """)
  }

  @Test func againItChangesNothing() throws {
    for seed in 0..<6 as Range<UInt64> {
      let once = try Pass.materialize.run(RandomGraph.training(seed: seed))
      #expect(try Pass.materialize.run(once) == once)
    }
  }
}
