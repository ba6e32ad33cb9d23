import KeelCore
import KeelGraph
import Testing

@Suite struct CommonSubexpressionsTests {
  @Test func equalNodesAreComputedOnce() throws {
    let after = try text(after: .commonSubexpressions) { b in
      let x = b.input("x", f32(2, 3))
      let first = b.scope("first") { (x * 2.0).elementwise(.tanh) }
      return first + b.scope("second") { (x * 2.0).elementwise(.tanh) }
    }
    // The path of the first stays.
    #expect(
      after == """
        graph g {
          %0 = x{data} : f32[2, 3]
          %1 = constant{2.0} : f32[]  // first
          %2 = multiply(%0, %1) : f32[2, 3]  // first
          %3 = tanh(%2) : f32[2, 3]  // first
          %4 = add(%3, %3) : f32[2, 3]
          output y = %4
        }
        """)
  }

  @Test func resultsOfOneNodeStayApart() throws {
    let builder = GraphBuilder(name: "g")
    let (x, c) = (builder.input("x", f32(4, 2)), builder.constant(1, [2]))
    for name in ["a", "b"] {
      let results = builder.append(.batchNormTraining(BatchNormTraining(axis: 1, epsilon: 0.5)), [x, c, c])
      builder.output(name, name == "a" ? results[1] : results[3])
    }
    #expect(
      try Pass.commonSubexpressions.run(builder.graph()).description == """
        graph g {
          %0 = x{data} : f32[4, 2]
          %1 = constant{1.0} : f32[2]
          %2:4 = batchNormTraining{axis 1, epsilon 0.5}(%0, %1, %1) : f32[4, 2], f32[2], f32[2], f32[2]
          output a = %2.1
          output b = %2.3
        }
        """)
  }

  @Test func whatDiffersInAnAttributeOrAnOperandStays() throws {
    let after = try graph { b in
      let x = b.input("x", f32(2, 2))
      let sums = x.sum(axes: [0]) + x.sum(axes: [1])
      let products = x.matMul(x) + x.matMul(x, transposeA: true)
      return sums - products + (sums * 2.0 - sums * 3.0) + b.constant(2, [2])
    }
    #expect(try Pass.commonSubexpressions.run(after) == after)
  }

  @Test func inputsAndTheirUpdatesStay() throws {
    let builder = GraphBuilder(name: "g")
    let (a, b) = (builder.input("a", f32(2)), builder.input("b", f32(2)))
    builder.update(a, with: a + b)
    builder.update(b, with: a + b)
    #expect(
      try Pass.commonSubexpressions.run(builder.graph()).description == """
        graph g {
          %0 = a{data} : f32[2]
          %1 = b{data} : f32[2]
          %2 = add(%0, %1) : f32[2]
          update "a" <- %2
          update "b" <- %2
        }
        """)
  }
}
