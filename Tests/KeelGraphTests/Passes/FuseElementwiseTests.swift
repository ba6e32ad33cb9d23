import KeelCore
import KeelGraph
import Testing

@Suite struct FuseElementwiseTests {
  private func after(_ body: (GraphBuilder) -> Tensor) throws -> String { try text(after: .fuseElementwise, body) }

  @Test func aChainBecomesOneNode() throws {
    let chain = { (b: GraphBuilder) in
      b.scope("act") { ((b.input("x", f32(4, 3)) + b.input("b", f32(3))) * 0.5).elementwise(.tanh) }
    }
    #expect(
      try graph("g", chain).description == """
        graph g {
          %0 = x{data} : f32[4, 3]  // act
          %1 = b{data} : f32[3]  // act
          %2 = add(%0, %1) : f32[4, 3]  // act
          %3 = constant{0.5} : f32[]  // act
          %4 = multiply(%2, %3) : f32[4, 3]  // act
          %5 = tanh(%4) : f32[4, 3]  // act
          output y = %5
        }
        """)
    #expect(
      try after(chain) == """
        graph g {
          %0 = x{data} : f32[4, 3]  // act
          %1 = b{data} : f32[3]  // act
          %2 = fused{tanh(multiply(add($0, $1), 0.5))}(%0, %1) : f32[4, 3]  // act
          output y = %2
        }
        """)
  }

  @Test func aTreeBecomesOneNode() throws {
    #expect(
      try after { b in
        let (x, y) = (b.input("x", f32(4)), b.input("y", f32(4)))
        return x.elementwise(.exp) / (x.elementwise(.square) - y)
      }.contains("= fused{"))
  }

  @Test func aValueWithTwoReadersStays() throws {
    #expect(
      try after { b in
        let shared = b.input("x", f32(4)).elementwise(.exp)
        return (shared.elementwise(.tanh) * b.input("z", f32(4))).sum() + shared.elementwise(.sigmoid).sum()
      } == """
        graph g {
          %0 = x{data} : f32[4]
          %1 = exp(%0) : f32[4]
          %2 = z{data} : f32[4]
          %3 = fused{multiply(tanh($1), $0)}(%2, %1) : f32[4]
          %4 = reduceSum{axis 0}(%3) : f32[]
          %5 = sigmoid(%1) : f32[4]
          %6 = reduceSum{axis 0}(%5) : f32[]
          %7 = add(%4, %6) : f32[]
          output y = %7
        }
        """)
  }

  @Test func anOutputAndAnUpdatedValueStay() throws {
    let builder = GraphBuilder(name: "g")
    let x = builder.input("x", f32(4))
    let (inner, moved) = (x.elementwise(.exp), x.elementwise(.tanh))
    builder.output("inner", inner)
    builder.update(x, with: moved)
    builder.output("y", inner.elementwise(.relu) + moved.elementwise(.relu))
    let text = try Pass.deadCode.run(Pass.fuseElementwise.run(builder.graph())).description
    #expect(text.contains("%1 = exp(%0) : f32[4]\n") && text.contains("= tanh(%0) : f32[4]\n"))
    #expect(text.contains("fused{add("))
    #expect(text.contains("output inner = %1"))
  }

  @Test func aSmallerOperandIsComputedOnce() throws {
    #expect(
      try after { b in
        b.input("x", f32(64, 3)) * b.input("v", f32(3)).elementwise(.square).elementwise(.squareRoot)
      } == """
        graph g {
          %0 = x{data} : f32[64, 3]
          %1 = v{data} : f32[3]
          %2 = fused{squareRoot(square($0))}(%1) : f32[3]
          %3 = multiply(%0, %2) : f32[64, 3]
          output y = %3
        }
        """)
  }

  @Test func constantsAreWrittenIntoTheExpression() throws {
    #expect(
      try after { b in b.constant(1, [4]) / (b.input("x", f32(4)) + 3.0) } == """
        graph g {
          %0 = x{data} : f32[4]
          %1 = fused{divide(1, add($0, 3))}(%0) : f32[4]
          output y = %1
        }
        """)
    // One of many values is an operand.
    #expect(try after { b in b.input("x", f32(2)) + b.constant([1, 2], [2]) }.contains("add(%0, %1)"))
  }

  @Test func aConstantThatGivesTheShapeStays() throws {
    #expect(
      try after { b in b.input("x", f32(3)) * b.constant(2, [4, 3]) } == """
        graph g {
          %0 = x{data} : f32[3]
          %1 = constant{2.0} : f32[4, 3]
          %2 = multiply(%0, %1) : f32[4, 3]
          output y = %2
        }
        """)
    #expect(try after { b in b.constant(4, [2]).elementwise(.squareRoot) }.contains("squareRoot(%0)"))
  }

  @Test func operandsThatAreTheSameStandOnce() throws {
    #expect(
      try after { b in
        let x = b.input("x", f32(4))
        return x * x + x
      } == """
        graph g {
          %0 = x{data} : f32[4]
          %1 = fused{add(multiply($0, $0), $0)}(%0) : f32[4]
          output y = %1
        }
        """)
    // A value that one node reads twice has one reader.
    #expect(
      try after { b in
        let x = b.input("x", f32(4)).elementwise(.exp)
        return x * x
      } == """
        graph g {
          %0 = x{data} : f32[4]
          %1 = fused{t0 = exp($0); multiply(t0, t0)}(%0) : f32[4]
          output y = %1
        }
        """)
  }

  @Test func noMoreThanTwelveOperands() throws {
    let sum = try Pass.deadCode.run(
      Pass.fuseElementwise.run(
        graph { b in (1..<30).reduce(b.input("x0", f32(4))) { $0 + b.input("x\($1)", f32(4)) } }))
    let fused = sum.nodes.filter { $0.operation.rules.name == "fused" }
    #expect(fused.count == 3)
    #expect(fused.allSatisfy { $0.inputs.count <= 12 })
    #expect(fused.map(\.inputs.count).max() == 12)
  }

  @Test func integersAreLeftAlone() throws {
    let before = try graph { b in b.input("x", i32(3)) + 1.0 + 2.0 }
    #expect(try Pass.fuseElementwise.run(before) == before)
  }

  @Test func aLoneFunctionStaysPlain() throws {
    let before = try graph { b in b.input("x", f32(3)).elementwise(.elu, b.input("alpha", f32(3))) }
    #expect(try Pass.fuseElementwise.run(before) == before)
    #expect(
      try after { b in b.input("x", f32(3)).elementwise(.elu, 1.0) }.contains("fused{elu($0, 1)}(%0)"))
  }
}
