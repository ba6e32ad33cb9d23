import KeelCore
import KeelGraph
import Testing

@Suite struct FusePrologueTests {
  /// The backward pass of a batch norm whose dy is what `cotangent` makes.
  private func after(_ cotangent: (GraphBuilder, Tensor) -> Tensor) throws -> String {
    let builder = GraphBuilder(name: "g")
    let (x, c) = (builder.input("x", f32(4, 2)), builder.input("c", f32(2)))
    let dy = cotangent(builder, builder.input("dz", f32(4, 2)))
    let results = builder.append(.batchNormBackward(BatchNormBackward(axis: 1, epsilon: 0.5)), [dy, x, c, c, c, c])
    builder.output("dx", results[0])
    builder.output("dscale", results[1])
    let pipeline = Pipeline([.fuseElementwise, .deadCode, .fusePrologue, .deadCode])
    return try sameResults(builder.graph(), after: pipeline).description
  }

  @Test func theActivationsGradientGoesIn() throws {
    #expect(
      try after { b, dz in
        b.input("y", f32(4, 2)).elementwise(.greater, 0.0).elementwise(.select, dz, 0.0)
      } == """
        graph g {
          %0 = x{data} : f32[4, 2]
          %1 = c{data} : f32[2]
          %2 = dz{data} : f32[4, 2]
          %3 = y{data} : f32[4, 2]
          %4:3 = batchNormBackward{axis 1, epsilon 0.5, prologue select(greater($1, 0), $0, 0)}\
        (%2, %0, %1, %1, %1, %1, %3) : f32[4, 2], f32[2], f32[2]
          output dx = %4.0
          output dscale = %4.1
        }
        """)
  }

  @Test func aNumberFirst() throws {
    // The first operand of x's type is the one that the kernel reads as dy; scalars follow.
    let text = try after { b, dz in b.input("s", f32(1)) * dz }
    #expect(text.contains("prologue multiply($1, $0)}(%2, %0, %1, %1, %1, %1, %3)"))
  }

  @Test func operandsOfOtherShapesStayOutside() throws {
    let text = try after { b, dz in dz * b.input("v", f32(2)) }
    #expect(text.contains("multiply(%2, %3)") && !text.contains("prologue"))
  }

  @Test func aCotangentWithTwoReadersStaysOutside() throws {
    let builder = GraphBuilder(name: "g")
    let (x, c) = (builder.input("x", f32(4, 2)), builder.input("c", f32(2)))
    let dy = builder.input("dz", f32(4, 2)).elementwise(.tanh)
    builder.output(
      "dx", builder.append(.batchNormBackward(BatchNormBackward(axis: 1, epsilon: 0.5)), [dy, x, c, c, c, c])[0])
    builder.output("sum", dy.sum())
    let before = try builder.graph()
    #expect(try Pass.fusePrologue.run(before) == before)
  }
}
