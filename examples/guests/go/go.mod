module cardinal.example/counter

go 1.24
